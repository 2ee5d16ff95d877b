"""The settings: one file, the environment over it, every fault at once, no secret shown."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from monitor.app.settings import (
    ReceiverSettings,
    RedisUrl,
    RuleSettings,
    Settings,
    SettingsError,
    format_duration,
    load_settings,
    parse_duration,
)

SAMPLE = Path(__file__).parents[2] / "recallwatch.yaml"
SECRET = "hunter2"
GROUPS = "intents: {groups: {urgent: [lost_card]}}\n"
RULE = "{name: urgent-recall, of: urgent, objective: 0.80}"


def loaded(folder: Path, text: str, **variables: str) -> Settings:
    file = folder / "recallwatch.yaml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, {f"RECALLWATCH_{name}": v for name, v in variables.items()})


def refused(folder: Path, text: str, **variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(folder, text, **variables)
    return str(caught.value)


def declared(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """Path, group and name of every setting; a rule stands for all rules, and so on."""
    parts: dict[str, type[BaseModel]] = {"rules": RuleSettings, "notify": ReceiverSettings}
    for name, field in model.model_fields.items():
        here = f"{path}{name}"
        yield here, model, name
        kind = parts.get(here, field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from declared(kind, f"{here}.")


# Defaults and the sample


def test_defaults_are_those_of_the_sample_where_it_does_not_say_otherwise() -> None:
    sample, plain = load_settings(SAMPLE, {}).masked(), Settings().masked()
    own = {"intents", "rules", "verdict"}
    assert {k: v for k, v in sample.items() if k not in own} == {
        k: v for k, v in plain.items() if k not in own
    }
    assert load_settings(SAMPLE, {}).verdict.accuracy == Settings().verdict.accuracy
    assert load_settings(SAMPLE, {}).verdict.latency_ms == Settings().verdict.latency_ms


def test_each_line_of_the_sample_that_is_not_marked_is_a_default() -> None:
    rule = load_settings(SAMPLE, {}).rules[0]
    marked = {"name": rule.name, "of": rule.of, "per": rule.per, "objective": rule.objective}
    assert rule == RuleSettings.model_validate(marked)


def test_the_sample_watches_the_urgent_intents_of_a_bank() -> None:
    settings = load_settings(SAMPLE, {})
    urgent = ("report_fraud", "lost_card", "account_locked", "payment_failed")
    assert settings.intents.groups == {"urgent": urgent}
    rule = settings.rules[0]
    assert (rule.name, rule.of, rule.objective) == ("urgent-recall", "urgent", 0.80)
    assert (rule.per, rule.maturity) == (("variant",), timedelta(0))


def test_the_sample_names_and_comments_every_setting() -> None:
    text = SAMPLE.read_text(encoding="utf-8")
    for path, _, name in declared(Settings):
        assert re.search(rf"(^|[\s{{#-]){name}:", text, re.MULTILINE), path


def test_the_sample_stays_valid_when_the_lines_commented_out_are_taken_in(tmp_path: Path) -> None:
    names = {name for _, _, name in declared(Settings)}
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    taken_in = [re.sub(rf"^(\s*)# ({'|'.join(names)}): ", r"\1\2: ", line) for line in lines]
    text = "\n".join(taken_in).replace("protocol: PLAINTEXT", "protocol: SASL_SSL")
    text = text.replace('url: "redis:', 'url: "rediss:')
    settings = loaded(tmp_path, text)
    security = settings.kafka.security
    assert None not in {*dict(security).values(), *dict(settings.redis).values()}
    assert settings.kafka.instance_id == "worker-1"
    assert (settings.rules[0].baseline, settings.verdict.relevance) == (0.92, 0.7)
    assert settings.mapping.time_unit == "iso"


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == Settings()
    assert loaded(tmp_path, "# nothing\nkafka:\nrules:\nredis: {url: }\n") == Settings()


def test_every_setting_has_an_example_that_is_a_right_value() -> None:
    for path, group, name in declared(Settings):
        examples = group.model_fields[name].examples
        assert examples, path
        others = {"name": "x", "of": "urgent", "objective": 0.8} if group is RuleSettings else {}
        value = yaml.safe_load(str(examples[0]))
        if path == "intents.closed":
            others = {"known": ["lost_card"]}
        try:
            group.model_validate({**others, name: value})
        except ValidationError as error:
            conflicts = {details["type"] for details in error.errors()}
            assert conflicts == {"conflict"}, path


# Which file


def test_a_file_that_was_named_and_is_missing_is_an_error(tmp_path: Path) -> None:
    missing = tmp_path / "other.yaml"
    for path, environ in (
        (missing, dict[str, str]()),
        (None, {"RECALLWATCH_CONFIG": str(missing)}),
    ):
        with pytest.raises(SettingsError, match=r"other\.yaml: cannot be read: No such file"):
            load_settings(path, environ)


def test_no_file_at_the_default_place_means_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}) == Settings()
    (tmp_path / "recallwatch.yaml").write_text("kafka: {group: here}", encoding="utf-8")
    assert load_settings(environ={}).kafka.group == "here"


def test_the_file_is_chosen_by_argument_then_by_environment(tmp_path: Path) -> None:
    named = tmp_path / "named.yaml"
    named.write_text("kafka: {group: named}", encoding="utf-8")
    environ = {"RECALLWATCH_CONFIG": str(named), "RECALLWATCH_REQUIRE_REAL": "1"}
    assert load_settings(environ=environ).kafka.group == "named"
    assert load_settings(SAMPLE, environ).kafka.group == "recallwatch"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"kafka: {group: a", "is not valid YAML: line 1, column 17"),
        (b"kafka: {}\nkafka: {}\n", "is not valid YAML: line 2, column 1: a name is given twice"),
        (b"- kafka\n", "must hold names and values"),
        (b"kafka: \xff\n", "is not UTF-8 text (byte 7)"),
        (b"kafka: \x07\n", "is not valid YAML: it holds a character that YAML does not allow"),
    ],
)
def test_a_file_that_cannot_be_understood_is_one_clear_error(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    file = tmp_path / "recallwatch.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, {})
    assert problem in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_folder_in_place_of_the_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load_settings(tmp_path, {})


# Faults

FAULTY = f"""
kafka:
  bootstrap_server: "kafka:9092"
  session_timeout: 45
  labels: {{topic: predictions}}
redis: {{shards: 0, namespace: Prod}}
intents: {{groups: {{urgent: [lost_card]}}}}
slices: [channel, channel]
windows: {{pane: 7m}}
rules:
  - {{name: a, of: urgent, objective: 80, evidence: 3, maturity: soon, per: [device]}}
  - {{name: a, of: urgent, objective: 0.8, baseline: 0.5, severity: ticket}}
  - {RULE}
verdict: {{recall: {{urgnt: 0.8}}}}
mapping: {{predictions: {{fields: {{predicted_intend: a..b}}}}}}
telemetry: {{port: 70000}}
notifier: []
"""


def test_all_faults_are_shown_at_once_with_path_problem_and_example(tmp_path: Path) -> None:
    message = refused(tmp_path, FAULTY, WORKER__BATCH_RECORDS="many", DASHBORD__PORT="1")
    for line in (
        "kafka.bootstrap_server: is not a setting; did you mean bootstrap_servers?\n"
        "      for example  bootstrap_servers: kafka-1:9092, kafka-2:9092",
        "kafka.session_timeout: 45 has no unit: write 45s, 45m or 45h\n"
        "      for example  session_timeout: 45s",
        "kafka.labels.topic: is also the topic of predictions",
        "redis.shards: must be at least 1, not 0\n      for example  shards: 1",
        "redis.namespace: must be a-z, 0-9, '_' and '-' (1 to 40 of them), not \"Prod\"",
        "slices: names channel twice\n      for example  slices: [variant, channel]",
        "windows.pane: must divide one hour without a rest\n      for example  pane: 1m",
        "rules[0].objective: must be less than 1, not 80\n      for example  objective: 0.80",
        "rules[0].evidence: must be at least 10",
        "rules[0].maturity: must be a whole number with its unit",
        "rules[0].per: device is not one of slices (variant, channel)",
        "rules[1].name: is the name of an earlier rule",
        "rules[1].severity: must be 'page' or 'warning', not \"ticket\"",
        "verdict.recall.urgnt: is not a group (urgent)\n      for example  recall: {urgent: 0.80}",
        "mapping.predictions.fields.predicted_intend: must be names or list places joined by dots",
        "mapping.predictions.fields.predicted_intend: is not a field of such a record",
        "telemetry.port: must be at most 65535, not 70000\n      for example  port: 9464",
        "worker.batch_records (from RECALLWATCH_WORKER__BATCH_RECORDS): must be a whole number, "
        'not "many"\n      for example  RECALLWATCH_WORKER__BATCH_RECORDS=8000',
        "notifier: is not a setting; did you mean notify?",
        "dashbord (from RECALLWATCH_DASHBORD__PORT): is not a setting; did you mean dashboard?",
    ):
        assert f"\n  {line}" in message, line
    assert "recallwatch.yaml: 20 faults in the settings\n" in message


CONFLICTS = [
    ("kafka: {labels: {topic: predictions}}", "kafka.labels.topic: is also the topic of pred"),
    ("kafka: {security: {protocol: SASL_SSL}}", "kafka.security.password: is required by protocol"),
    ("kafka: {security: {username: me}}", "kafka.security.username: needs protocol SASL_SSL or"),
    ("kafka: {security: {ca_file: a}}", "kafka.security.ca_file: needs protocol SSL or SASL_SSL"),
    (
        "kafka: {security: {protocol: SSL, cert_file: a}}",
        "kafka.security.key_file: is required beside cert_file",
    ),
    ("kafka: {bootstrap_servers: kafka}", "kafka.bootstrap_servers[0]: must be host:port"),
    ("kafka: {bootstrap_servers: []}", "kafka.bootstrap_servers: must not be empty"),
    ("kafka: {session_timeout: 1s}", "kafka.session_timeout: must be at least 6s"),
    (
        "kafka: {client: librdkafka}",
        "kafka.client: must be 'kafka-python' or 'confluent-kafka', no",
    ),
    ("kafka: {assignor: sticky}", "kafka.assignor: must be 'range' or 'cooperative-sticky', not"),
    ("redis: {url: 'http://a'}", "redis.url: must start with redis://, rediss:// or unix://"),
    ("redis: {url: 'redis://a:b/0'}", "redis.url: must have a number as its port"),
    ("redis: {url: 'redis://a/b'}", "redis.url: must end in the number of the database"),
    ("redis: {url: 'redis://'}", "redis.url: must name a host"),
    ("redis: {url: 'unix://'}", "redis.url: must name the socket file"),
    ("redis: {ca_file: a}", "redis.ca_file: needs a redis.url that starts with rediss://"),
    (
        "redis: {url: 'rediss://h', key_file: a}",
        "redis.cert_file: is required beside key_file",
    ),
    (
        "redis: {cluster: true, url: 'redis://h/3'}",
        "redis.cluster: has no database but 0: leave the number out of redis.url",
    ),
    (
        "redis: {cluster: true, url: 'unix:///run/redis.sock'}",
        "redis.cluster: needs host and port of a node in redis.url, not a socket file",
    ),
    ("intents: {closed: true}", "intents.known: must list the intents, since they are closed"),
    (
        "intents: {closed: true, known: [a], groups: {urgent: [a, b]}}",
        "intents.groups.urgent: holds intents that are not known: b",
    ),
    ("intents: {known: [a], groups: {a: [a]}}", "intents.groups.a: is also the name of a known"),
    ("intents: {groups: {urgent: []}}", "intents.groups.urgent: must not be empty"),
    ("windows: {recent: 90s}", "windows.recent: must be a whole number of panes (1m)"),
    ("windows: {horizon: 30s}", "windows.horizon: must be at least one pane (1m)"),
    ("windows: {keep: {1m: 7d}}", "windows.keep: must have exactly 1m, 1h, 1d"),
    (
        "windows: {keep: {1m: 7d, 1h: 90d, 1d: 30d}}",
        "windows.keep.1d: must be at least 35d",
    ),
    (
        f"{GROUPS}rules: [{{name: a, of: urgent, objective: 0.8, baseline: 0.8}}]",
        "rules[0].baseline: must be above the objective (0.8)",
    ),
    (
        "intents: {closed: true, known: [a]}\nrules: [{name: a, of: b, objective: 0.8}]",
        "rules[0].of: is neither a group nor an intent (a)",
    ),
    (f"{GROUPS}rules: [{RULE}, {RULE}]", "rules[1].name: is the name of an earlier rule"),
    ("rules: [{name: a, of: b}]", "rules[0].objective: is required"),
    ("verdict: {accuracy: {good: 0.5}}", "verdict.accuracy.good: must be above bad (0.6)"),
    ("sampling: 0", "sampling: must be more than 0, not 0"),
    ("sampling: 10", "sampling: must be at most 1, not 10"),
    ("verdict: {window: 90m}", "verdict.window: must be a whole number of hours"),
    ("verdict: {window: 91d}", "verdict.window: is longer than hours are kept (windows.keep)"),
    ("verdict: {window: 30m}", "verdict.window: must be at least 1h"),
    (
        "verdict: {variants: {prompt: {recall: {urgnt: 0.8}}}}",
        "verdict.variants.prompt.recall.urgnt: is not a group (none is declared)",
    ),
    (
        "verdict: {variants: {a: {offline: [{model_version: m, metric: recall, value: 1}]}}}",
        "verdict.variants.a.offline[0].of: is required by this metric",
    ),
    (
        "verdict: {variants: {a: {offline: "
        "[{model_version: m, metric: recall, of: urgnt, value: 1}]}}}",
        "verdict.variants.a.offline[0].of: is not a group (none is declared)",
    ),
    ("mapping: {labels: {preset: rasa}}", "mapping.labels.preset: must be 'flat', not \"rasa\""),
    ("dashboard: {base_path: 'a b'}", "dashboard.base_path: must be a path of letters"),
    (
        "dashboard: {identity: {header: X-User, oidc: /a}}",
        "dashboard.identity.oidc: must not be given beside header",
    ),
    ("dashboard: {identity: {header: 'X User'}}", "dashboard.identity.header: must be letters"),
    ("dashboard: {identity: {proxies: [proxy]}}", "dashboard.identity.proxies: proxy is no addr"),
    ("dashboard: {identity: {proxies: []}}", "dashboard.identity.proxies: must not be empty"),
    ("dashboard: {allowed_hosts: ['a:80']}", "dashboard.allowed_hosts: a:80 is no host name"),
    ("dashboard: {allowed_hosts: ['https://a']}", "dashboard.allowed_hosts: https://a is no host"),
    ("worker: 5", "worker: must be a group of settings (name: value)"),
    ("kafka: {group: 5}", "kafka.group: must be text; write a number, true or false in quotes"),
]


@pytest.mark.parametrize(("text", "fault"), CONFLICTS)
def test_settings_that_do_not_fit_together_are_refused(
    tmp_path: Path, text: str, fault: str
) -> None:
    message = refused(tmp_path, text)
    assert f"\n  {fault}" in message
    assert "for example" in message


def test_a_rule_with_a_wrong_value_is_also_judged_by_the_names_it_uses(tmp_path: Path) -> None:
    text = "intents: {closed: true, known: [a]}\nrules: [{name: r, of: b, objective: 80}]"
    message = refused(tmp_path, text)
    assert "rules[0].objective: must be less than 1" in message
    assert "rules[0].of: is neither a group nor an intent" in message


def test_an_intent_may_be_called_yes_or_no(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "intents: {known: [yes, no], groups: {on: [yes]}, closed: yes}")
    assert settings.intents.known == ("yes", "no")
    assert settings.intents.groups == {"on": ("yes",)}
    assert settings.intents.closed


def test_a_rule_may_be_about_any_intent_when_intents_are_open(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "rules: [{name: r, of: lost_card, objective: 0.8}]")
    assert settings.rules[0].of == "lost_card"


def test_variant_is_always_a_slice_and_comes_first(tmp_path: Path) -> None:
    assert loaded(tmp_path, "slices: [channel]").slices == ("variant", "channel")
    assert loaded(tmp_path, "slices: [channel, variant]").slices == ("variant", "channel")


def test_kept_sizes_follow_the_pane_when_they_are_not_given(tmp_path: Path) -> None:
    keep = loaded(tmp_path, "windows: {pane: 5m}").windows.keep
    assert list(keep) == [timedelta(minutes=5), timedelta(hours=1), timedelta(days=1)]


@pytest.mark.parametrize(
    ("written", "held"), [("", ""), ("/", ""), ("monitor", "/monitor"), ("/a/b/", "/a/b")]
)
def test_a_base_path_is_held_in_one_form(tmp_path: Path, written: str, held: str) -> None:
    settings = loaded(tmp_path, f"dashboard: {{base_path: '{written}'}}")
    assert settings.dashboard.base_path == held


@pytest.mark.parametrize(
    ("written", "held"),
    [
        ("[Monitor.Example.com.]", ("monitor.example.com",)),
        ("['*.example.com', '[::1]', '10.0.0.7']", ("*.example.com", "::1", "10.0.0.7")),
    ],
)
def test_names_of_the_dashboard_are_held_in_one_form(
    tmp_path: Path, written: str, held: tuple[str, ...]
) -> None:
    settings = loaded(tmp_path, f"dashboard: {{allowed_hosts: {written}}}")
    assert settings.dashboard.allowed_hosts == held


def test_nobody_is_asked_who_they_are_unless_the_settings_say_how(tmp_path: Path) -> None:
    assert not loaded(tmp_path, "").dashboard.identity.is_asked
    for way in ("header: X-User", "oidc: /a"):
        assert loaded(tmp_path, f"dashboard: {{identity: {{{way}}}}}").dashboard.identity.is_asked


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().kafka.group = "other"


# Environment


def test_the_environment_changes_single_values_and_leaves_their_neighbours(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        f"kafka: {{group: file, labels: {{topic: l}}}}\n{GROUPS}rules: [{RULE}]\n",
        KAFKA__BOOTSTRAP_SERVERS="a:1,[::1]:2",
        KAFKA__PREDICTIONS__TOPIC="p",
        RULES__0__OBJECTIVE="0.7",
        INTENTS__GROUPS="{money: [payment_failed]}",
        WINDOWS__KEEP='{"1m": "1d", "1h": "90d", "1d": "40d"}',
        SLICES="channel, locale",
        INTENTS__CLOSED="no",
    )
    assert settings.kafka.bootstrap_servers == ("a:1", "[::1]:2")
    assert settings.kafka.group == "file"
    assert (settings.kafka.predictions.topic, settings.kafka.labels.topic) == ("p", "l")
    assert (settings.rules[0].name, settings.rules[0].objective) == ("urgent-recall", 0.7)
    assert set(settings.intents.groups) == {"urgent", "money"}
    assert settings.windows.keep[timedelta(days=1)] == timedelta(days=40)
    assert settings.slices == ("variant", "channel", "locale")
    assert not settings.intents.closed


def test_a_name_of_the_file_is_met_by_the_environment_whatever_its_case(tmp_path: Path) -> None:
    text = "intents: {groups: {Urgent: [a]}}\nverdict: {recall: {Urgent: 0.8}}"
    assert loaded(tmp_path, text, VERDICT__RECALL__URGENT="0.9").verdict.recall == {"Urgent": 0.9}


def test_a_password_in_the_environment_is_taken_as_it_is_written(tmp_path: Path) -> None:
    text = "kafka: {security: {protocol: SASL_SSL, mechanism: PLAIN, username: u}}"
    settings = loaded(tmp_path, text, KAFKA__SECURITY__PASSWORD="{a: [b]}")
    password = settings.kafka.security.password
    assert password is not None
    assert password.get_secret_value() == "{a: [b]}"


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("KAFKA__GRUP", "x", "kafka.grup (from RECALLWATCH_KAFKA__GRUP): is not a setting; did"),
        ("KAFKKA", "x", "kafkka (from RECALLWATCH_KAFKKA): is not a setting; did you mean kafka"),
        ("KAFKA__", "x", "RECALLWATCH_KAFKA__: is not the name of a setting"),
        ("KAFKA__GROUP__X", "x", "kafka.group (from RECALLWATCH_KAFKA__GROUP__X): must be text"),
        ("RULES__0__NAME", "x", "must be a list"),
        ("KAFKA__GROUP", "", "kafka.group (from RECALLWATCH_KAFKA__GROUP): must not be empty"),
        ("SLICES", "[a", "slices[0] (from RECALLWATCH_SLICES): must be letters, digits"),
    ],
)
def test_a_variable_that_sets_nothing_right_is_an_error(
    tmp_path: Path, name: str, value: str, fault: str
) -> None:
    assert fault in refused(tmp_path, "", **{name: value})


def test_variables_of_other_programs_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "recallwatch.yaml"
    file.write_text("", encoding="utf-8")
    assert load_settings(file, {"KAFKA__GROUP": "x", "RECALL": "x"}) == Settings()


# Secrets


def with_secrets(folder: Path) -> Settings:
    return loaded(
        folder,
        "kafka: {security: {protocol: SASL_SSL, mechanism: PLAIN, username: u}}",
        KAFKA__SECURITY__PASSWORD=SECRET,
        REDIS__URL=f"rediss://reader:{SECRET}@cache:6380/1",
    )


def test_secrets_are_read_but_no_text_form_shows_them(tmp_path: Path) -> None:
    settings = with_secrets(tmp_path)
    assert isinstance(settings.kafka.security.password, SecretStr)
    assert settings.redis.url.get_secret_value() == f"rediss://reader:{SECRET}@cache:6380/1"
    forms = [
        repr(settings),
        str(settings),
        f"{settings.redis.url}",
        str(settings.masked()),
        str(settings.model_dump()),
        settings.model_dump_json(),
        settings.digest(),
        repr(settings.kafka.security),
    ]
    assert [form for form in forms if SECRET in form] == []
    assert settings.redis.model_dump(mode="json")["url"] == "rediss://reader:***@cache:6380/1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://:{SECRET}@h:1/0", "redis://:***@h:1/0"),
        (f"redis://{SECRET}@h:1/0", "redis://***@h:1/0"),
        (f"redis://h/0?password={SECRET}&protocol=3", "redis://h/0?password=***&protocol=3"),
        (f"unix://u:{SECRET}@/run/redis.sock?db=1", "unix://u:***@/run/redis.sock?db=1"),
        ("redis://h:1/0", "redis://h:1/0"),
    ],
)
def test_a_redis_address_shows_everything_but_its_password(url: str, shown: str) -> None:
    assert str(RedisUrl(url)) == shown
    assert repr(RedisUrl(url)) == f"RedisUrl('{shown}')"


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        (f"kafka: {{security: {{password: {SECRET}, protocol: SASL}}}}", {}),
        (f"kafka: {{security: {{password: [{SECRET}]}}}}", {}),
        (f"kafka: {{security: {SECRET}}}", {}),
        (f"kafka: {{security: {{passwrod: {SECRET}}}}}", {}),
        (f"kafka: {{bootstrap_servers: 'u:{SECRET}@kafka:9092'}}", {}),
        (f"kafka: {{bootstrap_servers: 'SASL://{SECRET}:9092'}}", {}),
        (f"kafka: {{security: {{password: *{SECRET}}}}}", {}),
        (f"kafka: {{security: {{password: !{SECRET} x}}}}", {}),
        (f"kafka:\n  security: {{password: {SECRET}\n", {}),
        (f"kafka: {{security: {{password: &{SECRET}{SECRET}!x y}}}}\n  a", {}),
        (f"redis: {{url: 'redis://:{SECRET}@h:x/0'}}", {}),
        (f"redis: {{url: 'redis://u:{SECRET}'}}", {}),
        (f"redis: {{url: 'redis://:{SECRET}/{SECRET}@h:1/0'}}", {}),
        (f"redis: {{url: 'redis://:{SECRET}#{SECRET}@h:1/0'}}", {}),
        (f"redis: {{urll: 'redis://:{SECRET}@h:1/0'}}", {}),
        (f"redis: 'redis://:{SECRET}@h:1/0'", {}),
        (f"redis: {{namespace: 'redis://:{SECRET}@h:1/0'}}", {}),
        (f"notify: [{{url: 'slack://{SECRET}', topic: a}}]", {}),
        ("", {"KAFKA__SECURITY": SECRET}),
        ("", {"KAFKA__SECURITY": f"{{password: {SECRET}, protocol: x}}"}),
        ("", {"KAFKA__SECURITY": f"{{password: *{SECRET}}}"}),
        ("", {"REDIS__URL": SECRET}),
        ("", {"KAFKA__SECURITY__PASSWORD__X": SECRET}),
        ("", {"PASSWORD": SECRET}),
    ],
)
def test_no_error_repeats_a_secret(tmp_path: Path, text: str, variables: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text, **variables)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


# Durations


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        (" 6 h ", timedelta(hours=6)),
        ("35d", timedelta(days=35)),
        ("3y", timedelta(days=3 * 365)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_a_whole_number_with_its_unit(text: str, held: timedelta) -> None:
    assert parse_duration(text) == held


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (30, "30 has no unit: write 30s, 30m or 30h"),
        (1.5, r"1\.5 has no unit"),
        (0, "0 has no unit"),
        ("30", "30 has no unit"),
        ("-5", "-5 has no unit"),
        ("-5m", "whole number with its unit"),
        ("1.5h", "whole number with its unit"),
        ("5M", "whole number with its unit"),
        ("1h30m", "whole number with its unit"),
        ("soon", "whole number with its unit"),
        ("", "whole number with its unit"),
        ("٣d", "whole number with its unit"),
        ("9999999999y", "longer than can be counted"),
        ("9" * 5000 + "s", "longer than can be counted"),
    ],
)
def test_anything_else_is_not_a_duration(text: str | float, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**13))
def test_a_duration_is_written_as_it_is_read(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("duration", [timedelta(microseconds=1), timedelta(seconds=-1)])
def test_what_cannot_be_written_as_a_duration_is_refused(duration: timedelta) -> None:
    with pytest.raises(ValueError, match="a duration"):
        format_duration(duration)


# Digest


def test_the_digest_is_not_changed_by_hosts_secrets_and_pace(tmp_path: Path) -> None:
    changed = {
        "KAFKA__BOOTSTRAP_SERVERS": "elsewhere:9092",
        "REDIS__URL": f"redis://:{SECRET}@cache:6379/3",
        "TELEMETRY__PORT": "0",
        "WORKER__BATCH_RECORDS": "1",
        "DASHBOARD__HOST": "dash",
        "VERDICT__RELEVANCE": "0.5",
    }
    assert loaded(tmp_path, "", **changed).digest() == Settings().digest()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", Settings().digest())


@pytest.mark.parametrize(
    "text",
    [
        f"{GROUPS}rules: [{RULE}]",
        GROUPS,
        "slices: [channel]",
        "windows: {horizon: 40d}",
        "mapping: {predictions: {preset: rasa}}",
        "rules: [{name: r, of: lost_card, objective: 0.81}]",
    ],
)
def test_the_digest_is_changed_by_what_determines_the_numbers(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).digest() != Settings().digest()


def test_the_digest_does_not_depend_on_how_a_value_is_written(tmp_path: Path) -> None:
    one = loaded(tmp_path, "windows: {horizon: 48h, pane: 60s}\nslices: [variant]")
    other = loaded(tmp_path, "windows: {pane: 1m, horizon: 2d}")
    assert one.digest() == other.digest()


def test_masked_settings_can_be_written_as_json() -> None:
    text = TypeAdapter(dict[str, object]).dump_json(load_settings(SAMPLE, {}).masked())
    assert b'"horizon":"35d"' in text


def test_rule_of_a_misspelt_group_is_a_fault_also_when_intents_are_open(tmp_path: Path) -> None:
    path = tmp_path / "recallwatch.yaml"
    path.write_text(
        "intents: {groups: {urgent: [lost_card]}}\n"
        "rules: [{name: a, of: urgnt, objective: 0.8}, {name: b, of: balance, objective: 0.8}]\n"
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(path, {})
    assert "rules[0].of: is no group; did you mean urgent?" in str(caught.value)
    assert "rules[1]" not in str(caught.value)


# Who is told


def test_a_receiver_has_one_target_and_a_name_of_its_own(tmp_path: Path) -> None:
    both = f"notify: [{{webhook: https://{SECRET}@h/, topic: alerts}}]"
    assert "exactly one of url, webhook, alertmanager, topic" in refused(tmp_path, both)
    assert "exactly one of" in refused(tmp_path, "notify: [{severities: [page]}]")
    twice = "notify: [{webhook: http://a/}, {webhook: http://b/}]"
    assert "two receivers named webhook" in refused(tmp_path, twice)
    assert "page, warning or both" in refused(
        tmp_path, "notify: [{webhook: http://a/, severities: [loud]}]"
    )
    assert "is also the topic of labels" in refused(tmp_path, "notify: [{topic: labels}]")


def test_addresses_of_receivers_are_shown_nowhere(tmp_path: Path) -> None:
    text = f"""notify:
      - url: "slack://{SECRET}/b/c"
      - webhook: https://u:{SECRET}@hooks.example.com/{SECRET}
      - alertmanager: https://u:{SECRET}@am.example.com"""
    settings = loaded(tmp_path, text)
    assert [each.known_as for each in settings.notify] == ["url", "webhook", "alertmanager"]
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.masked())
    for name in ("url", "webhook", "alertmanager"):
        assert SECRET not in refused(tmp_path, f"notify: [{{{name}: {SECRET}}}]")
    assert SECRET not in refused(tmp_path, f"notify: [{{webhook: ftp://{SECRET}@host/}}]")


def test_what_is_told_does_not_count_for_the_digest(tmp_path: Path) -> None:
    told = loaded(tmp_path, "notify: [{topic: alerts}]\nalerting: {repeat: 1h}")
    assert told.digest() == Settings().digest()
