"""Nomad with ACLs and TLS: what each token may do, what a missing right looks like, and whom Drover trusts."""

import http.client
import json
import os
import re
import socket

import pytest

from conftest import QUICK
from rig import Drover, binaries, wait
from rig.secure import Authority
from rig.toolbox import REPORT
from stories.runs import outcomes
from stories.steps import HOLD, go_on, reached

PARENT = "drover-run-story"
ALL_RIGHTS = ("list-jobs", "parse-job", "read-job", "submit-job", "dispatch-job")
# Only the event stream brings news in time.
SELDOM = {**QUICK, "RECONCILE_INTERVAL": "10m"}


def policy(name, namespace):
    """A policy of the repository, for this namespace."""
    with open(os.path.join(binaries.ROOT, "nomad-jobs", "acl", f"{name}.policy.hcl"), encoding="utf-8") as file:
        return file.read().replace('namespace "default"', f'namespace "{namespace}"')


def rights(namespace, *names):
    return f'namespace "{namespace}" {{\n  capabilities = {json.dumps(names)}\n}}\n'


def token_of(rig, drover, rules):
    """(policy name, token that has it): the policy belongs to this dispatcher's namespace."""
    name = f"p-{drover.unique}"
    rig.nomad.apply_policy(name, rules)
    return name, rig.nomad.make_token(name)


@pytest.fixture(name="make_drover")
def make_drover_fixture(secure_rig, secure_toolbox):
    """make(rules, settings): a dispatcher, not started, whose token has these rights; rules gets the namespace."""
    made = []

    def make(rules, settings=None):
        drover = Drover(secure_rig, secure_toolbox, {**QUICK, **(settings or {})})
        made.append(drover)
        drover.policy, drover.settings["NOMAD_TOKEN"] = token_of(secure_rig, drover, rules(drover.namespace))
        return drover

    yield make
    secure_rig.heal()
    for drover in made:
        drover.close()


def nomad_state(drover):
    return drover.get("/v1/agent/health")["components"]["nomad"]


def children(drover):
    return [job for job in drover.rig.nomad.jobs(namespace=drover.namespace) if job["ParentID"]]


# The dispatcher --------------------------------------------------------------------------------------------------


def test_dispatcher_needs_no_more_than_its_policy(make_drover, secure_rig, secure_toolbox):
    """Registers, dispatches, follows, stops, purges."""
    secure_toolbox.add("slow", HOLD + REPORT)
    drover = make_drover(lambda namespace: policy("dispatcher", namespace), SELDOM).start()
    nomad = secure_rig.nomad
    run = drover.submit("slow")
    reached(drover, run["id"])
    assert nomad_state(drover) == "ok"
    go_on(drover, run["id"])
    drover.wait_run(run["id"], "completed")
    wait.until("the recorded child to be purged", lambda: not children(drover))
    second = drover.submit("slow")
    reached(drover, second["id"])
    job, _ = drover.child(second["id"])
    nomad.cli("job", "stop", "-detach", job, namespace=drover.namespace)
    drover.wait_run(second["id"], "canceled")
    assert outcomes(drover, second["id"]) == ["canceled"]
    assert "listing every" not in drover.process.log_text()


def test_child_that_cannot_be_placed_is_stopped(make_drover, secure_toolbox):
    secure_toolbox.add("finds", REPORT)
    settings = {"DROVER_DATACENTERS": "nowhere", "REQUEST_TTL": "5s"}
    drover = make_drover(lambda namespace: policy("dispatcher", namespace), settings).start()
    run = drover.submit("finds")
    wait.until("the child", lambda: children(drover))
    drover.cancel(run["id"])
    wait.until("the child to be withdrawn and purged", lambda: not children(drover))


@pytest.mark.parametrize("nodes,code,words", [(True, "unplaceable", "the largest has"), (False, "placement", "memory exhausted")])
def test_too_large_for_every_node_is_told_where_nodes_may_be_read(make_drover, secure_toolbox, nodes, code, words):
    """Without node:read, which is optional, Nomad's own words have to do, and the log says what is missing."""
    secure_toolbox.vertical(capacity="job", classes={"normal": {"cpu": "500m", "memory": "512Mi"}, "large": {"cpu": "1", "memory": "100GiB"}})
    secure_toolbox.add("huge", REPORT, resources={"memory": "90GiB"})

    def rules(namespace):
        text = policy("dispatcher", namespace)
        return text if nodes else text[: text.index("node {")]

    drover = make_drover(rules).start()
    run = drover.submit("huge")["id"]
    told = wait.until("the reason", lambda: (w := drover.run(run)["waiting"]) and words in w["text"] and w)
    assert told["code"] == code
    if nodes:
        assert "node:read is missing" not in drover.process.log_text()
    else:
        wait.until("the log to say what is missing", lambda: "node:read is missing" in drover.process.log_text())


@pytest.mark.parametrize("missing", ALL_RIGHTS)
def test_missing_right_is_named_and_mended_without_a_restart(make_drover, secure_rig, secure_toolbox, missing):
    secure_toolbox.add("finds", REPORT)
    # Who may submit may also parse.
    implied = {"parse-job": {"submit-job"}}.get(missing, set())
    left = [right for right in ALL_RIGHTS if right not in {missing} | implied]
    drover = make_drover(lambda namespace: rights(namespace, *left)).start()
    run = drover.submit("finds")
    told = wait.until("health to name the right", lambda: missing in nomad_state(drover) and nomad_state(drover))
    assert drover.namespace in told and "Permission denied" in told, told
    assert drover.get("/v1/agent/health")["status"] == "degraded"
    assert missing in drover.get("/v1/queue")["nomad"]["reason"]
    assert missing in drover.cli("queue").stdout
    assert drover.run(run["id"])["state"] == "queued" and drover.run(run["id"])["waiting"]
    secure_rig.nomad.apply_policy(drover.policy, policy("dispatcher", drover.namespace))
    drover.wait_run(run["id"], "completed", timeout_s=90)
    wait.until("health to be well", lambda: nomad_state(drover) == "ok", 60)


def test_unknown_token_is_told(make_drover, secure_toolbox):
    secure_toolbox.add("finds", REPORT)
    drover = make_drover(lambda namespace: policy("dispatcher", namespace))
    good = drover.settings["NOMAD_TOKEN"]
    drover.settings["NOMAD_TOKEN"] = "01234567-89ab-cdef-0123-456789abcdef"
    drover.start()
    told = wait.until("health to tell", lambda: "token" in nomad_state(drover) and nomad_state(drover))
    assert good not in told and drover.settings["NOMAD_TOKEN"] not in told + drover.process.log_text()


# The worker ------------------------------------------------------------------------------------------------------


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=15)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(15)
        self.sock.connect(self.path)


def as_task(environ, method, path, body=None):
    """The status of a call through the task's own socket with its workload identity."""
    connection = UnixConnection(os.path.join(environ["NOMAD_SECRETS_DIR"], "api.sock"))
    try:
        connection.request(method, path, body=body, headers={"X-Nomad-Token": environ["NOMAD_TOKEN"]})
        return connection.getresponse().status
    finally:
        connection.close()


def environ_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        pairs = (item.decode().partition("=") for item in file.read().split(b"\0") if item)
        return {name: value for name, _, value in pairs}


def test_worker_reads_its_own_variable_and_nothing_else(make_drover, secure_rig, secure_toolbox):
    secure_toolbox.add("slow", HOLD + REPORT)
    drover = make_drover(lambda namespace: policy("dispatcher", namespace)).start()
    secure_rig.nomad.put_variable("nomad/jobs/drover-dispatcher", {"S3_SECRET_KEY": "x"}, drover.namespace)
    run = drover.submit("slow")
    reached(drover, run["id"])
    job, alloc = drover.child(run["id"])
    environ = environ_of(secure_rig.client.task_pid(alloc))
    # Its keys came from the variable alone.
    assert "S3_SECRET_KEY" not in environ and environ["NOMAD_TOKEN"]
    there = f"?namespace={drover.namespace}"
    assert as_task(environ, "GET", f"/v1/var/nomad/jobs/{PARENT}{there}") == 200
    write = json.dumps({"Path": f"nomad/jobs/{PARENT}", "Items": {"S3_SECRET_KEY": "mine"}})
    denied = [
        ("GET", f"/v1/var/nomad/jobs/{PARENT}-large", None),
        ("GET", "/v1/var/nomad/jobs/drover-dispatcher", None),
        ("PUT", f"/v1/var/nomad/jobs/{PARENT}", write),
        ("GET", "/v1/jobs", None),
        ("GET", f"/v1/job/{PARENT}", None),
        ("POST", f"/v1/job/{PARENT}/dispatch", "{}"),
        ("DELETE", f"/v1/job/{job}", None),
        ("GET", "/v1/acl/tokens", None),
        ("GET", "/v1/agent/self", None),
    ]
    for method, path, body in denied:
        status = as_task(environ, method, path + there, body)
        assert status in (401, 403), (method, path, status)
    go_on(drover, run["id"])
    drover.wait_run(run["id"], "completed")


def test_shared_variable_needs_the_worker_policy(make_drover, secure_rig, secure_toolbox):
    secure_toolbox.add("finds", REPORT)
    drover = make_drover(lambda namespace: policy("dispatcher", namespace))
    with open(drover.settings["WORKER_ENV_FILE"], "a", encoding="utf-8") as file:
        file.write("DROVER_SECRETS_PATH=drover/worker\n")
    keys = {name: drover.settings[name] for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY")}
    secure_rig.nomad.put_variable("drover/worker", keys, drover.namespace)
    drover.start()
    run = drover.submit("finds")
    wait.until("what its one-shots die of", lambda: "credentials" in (drover.run(run["id"])["waiting"] or {"text": ""})["text"])
    name = f"w-{drover.unique}"
    secure_rig.nomad.apply_policy(name, policy("worker", drover.namespace), drover.namespace, PARENT)
    drover.wait_run(run["id"], "completed", timeout_s=90)


# People ----------------------------------------------------------------------------------------------------------


def reached_child(drover, run):
    reached(drover, run["id"])
    return drover.child(run["id"])


def test_analyst_and_operator_may_do_what_is_written_and_no_more(make_drover, secure_rig, secure_toolbox):
    secure_toolbox.add("slow", "echo words-of-the-tool\n" + HOLD + REPORT)
    drover = make_drover(lambda namespace: policy("dispatcher", namespace)).start()
    nomad, namespace = secure_rig.nomad, drover.namespace
    run, other = drover.submit("slow"), drover.submit("slow")
    job, alloc = reached_child(drover, run)
    # Of its own: the job of a stopped allocation is purged as soon as its run is handed back.
    _, to_stop = reached_child(drover, other)
    tokens = {}
    for role in ("analyst", "operator"):
        nomad.apply_policy(f"{role}-{drover.unique}", policy(role, namespace))
        tokens[role] = nomad.make_token(f"{role}-{drover.unique}")

    def may(role, *args):
        done = nomad.cli(*args, namespace=namespace, env={"NOMAD_TOKEN": tokens[role]}, check=False)
        text = done.stdout + done.stderr
        denied = re.search("Permission denied|code: 403", text) is not None
        assert denied == (done.returncode != 0), (role, args, text)
        return not denied

    variable = f"nomad/jobs/{PARENT}"
    node = secure_rig.client.node()["ID"]
    both = [("job", "status", job), ("alloc", "logs", alloc), ("alloc", "status", alloc), ("job", "allocs", job),
            ("job", "dispatch", "-detach", "-meta", "workflow=slow", "-meta", f"target={run['target']['id']}", PARENT)]
    operators = [("var", "get", variable), ("var", "put", "-force", variable, "S3_ACCESS_KEY=" + secure_rig.minio.access_key,
                  "S3_SECRET_KEY=" + secure_rig.minio.secret_key), ("node", "status", node),
                 ("alloc", "fs", alloc), ("alloc", "stop", "-detach", to_stop), ("job", "stop", "-detach", job),
                 ("job", "stop", "-detach", PARENT)]
    nobodys = [("var", "put", "other/path", "a=b"), ("node", "drain", "-enable", "-detach", "-yes", node),
               ("alloc", "exec", alloc, "/bin/true"), ("acl", "token", "list"), ("namespace", "apply", "mine"),
               ("job", "status", "-namespace", "default", "nothing-here")]
    for args in nobodys:
        assert [role for role in tokens if may(role, *args)] == [], args
    for args in both:
        assert [role for role in tokens if may(role, *args)] == ["analyst", "operator"], args
    for args in operators:
        assert [role for role in tokens if may(role, *args)] == ["operator"], args
    # `nomad job start` says "successful" and exits 0 even where it was denied: only the job tells.
    for role, stopped in (("analyst", True), ("operator", False)):
        nomad.cli("job", "start", "-detach", PARENT, namespace=namespace, env={"NOMAD_TOKEN": tokens[role]})
        assert nomad.job(PARENT, namespace)["Stop"] == stopped, role


# TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(name="stranger", scope="module")
def stranger_fixture(secure_session):
    """A CA that signed none of the servers' certificates."""
    return Authority(secure_session, "stranger")


@pytest.mark.parametrize(
    "settings,word",
    [
        ({"NOMAD_CACERT": "ca"}, "certificate"),
        ({"NOMAD_CACERT": "/nonexistent/ca.pem"}, "/nonexistent/ca.pem"),
        ({"NOMAD_TLS_SERVER_NAME": "another.example"}, "another.example"),
        ({"NOMAD_CLIENT_CERT": "", "NOMAD_CLIENT_KEY": ""}, "certificate"),
        ({"NOMAD_ADDR": "http"}, "HTTPS"),
    ],
    ids=["other-ca", "no-ca-file", "other-name", "no-client-certificate", "plain-http"],
)
def test_nomad_that_cannot_be_trusted_is_told(make_drover, secure_rig, secure_toolbox, stranger, settings, word):
    secure_toolbox.add("finds", REPORT)
    drover = make_drover(lambda namespace: policy("dispatcher", namespace))
    stand_in = {"ca": stranger.ca, "http": f"http://{secure_rig.nomad.address}"}
    drover.settings |= {name: stand_in.get(value, value) for name, value in settings.items()}
    drover.start()
    told = wait.until("health to tell", lambda: word in nomad_state(drover) and nomad_state(drover))
    assert secure_rig.nomad.address in told or "Nomad answered" in told, told
    assert not secure_rig.nomad.jobs(namespace=drover.namespace)


def test_server_name_and_skip_verify_are_honoured(make_drover, secure_toolbox, stranger):
    secure_toolbox.add("finds", REPORT)
    drover = make_drover(lambda namespace: policy("dispatcher", namespace), {"NOMAD_TLS_SERVER_NAME": "server.global.nomad"}).start()
    wait.until("Nomad to be used", lambda: nomad_state(drover) == "ok")
    drover.kill9()
    drover.settings |= {"NOMAD_CACERT": stranger.ca, "NOMAD_TLS_SERVER_NAME": "", "NOMAD_SKIP_VERIFY": "true"}
    drover.start()
    wait.until("Nomad to be used", lambda: nomad_state(drover) == "ok")


def test_store_is_found_through_consul_on_https(make_drover, secure_rig, secure_toolbox, stranger):
    secure_toolbox.add("finds", REPORT)
    drover = make_drover(lambda namespace: policy("dispatcher", namespace), secure_rig.consul_tls())
    # Workers are told where Consul is; the files of its certificates are the nodes' own.
    with open(drover.settings["WORKER_ENV_FILE"], "a", encoding="utf-8") as file:
        for name, value in secure_rig.consul_tls().items():
            file.write(f"{name}={value}\n")
    drover.start()
    drover.wait_run(drover.submit("finds")["id"], "completed")
    drover.kill9()
    drover.settings["CONSUL_CACERT"] = stranger.ca
    drover.start()
    store = wait.until("health to tell", lambda: (s := drover.get("/v1/agent/health")["components"]["store"]) != "ok" and "certificate" in s and s)
    assert "minio" in store, store
