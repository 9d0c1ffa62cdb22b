#!/usr/bin/env python3
"""The images' entry points as plain processes, in all that a container is but for the engine: compose.yaml's and
Kubernetes' environment, keys and secrets, a root that cannot be written and holds nothing but the binary and its libraries,
an unprivileged user, no capability, no new privileges, a process of number 1, and the names of the services.

    tests/containers.py FOLDER      the folder with the five binaries; as root (it makes namespaces, on Linux)

The stores are PostgreSQL and Redis of Debian, set up as compose.yaml sets them up, and the MongoDB-compatible server of
`tests/stores`, which stands in for the image of MongoDB: it alone gets a URL of its own. Everything is in a network of its own,
so the ports are the product's; it all ends with this process.
"""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import yaml

import deployment
from deployment import PROCESSES, ROOT, compose, containers, dockerfile_environment, rendered

USER = 65532
# Names that the files of deployment use, all on this machine.
NAMES = ("auth-svc", "user-svc", "message-svc", "gateway", "postgres", "mongodb", "redis")
# A process' own stop takes 25 s at most; starting in a debug build takes a few.
PATIENCE = 60
# What Docker gives every process besides.
ENGINE = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME": "container"}

# $1 the empty folder, $2 keys, $3 secrets (or none), $4 the binary, $5 its user, and then the command.
ENTER = r"""
set -eu
root=$1 keys=$2 secrets=$3 binary=$4 user=$5
shift 5
mount -t tmpfs -o mode=0755 root "$root"
mkdir -p "$root/proc" "$root/dev" "$root/etc" "$root/run/secrets" "$root/usr/local/bin" "$root/var/lib/switchboard/keys"
# The libraries of the base image: libc, libm, libgcc and the loader.
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
touch "$root/usr/local/bin/$(basename "$binary")" "$root/dev/null" "$root/dev/urandom"
cp "$(dirname "$root")/hosts" "$root/etc/hosts"
mount --bind "$binary" "$root/usr/local/bin/$(basename "$binary")"
mount --bind /dev/null "$root/dev/null"
mount --bind /dev/urandom "$root/dev/urandom"
mount --bind "$keys" "$root/var/lib/switchboard/keys"
mount -o remount,bind,ro "$root/var/lib/switchboard/keys"
if [ -n "$secrets" ]; then
  mount --bind "$secrets" "$root/run/secrets"
  mount -o remount,bind,ro "$root/run/secrets"
fi
mount -t proc -o ro proc "$root/proc"
mount -o remount,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" --groups="${user#*:}" "$root" "$@"
"""


def wait_for(what, true):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {PATIENCE} s")


class Container:
    """One process in a container of its own."""

    def __init__(self, folder, name, environment, keys, secrets, command=None):
        self.name = name
        root = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
        self.log = pathlib.Path(f"{root}.log")
        binary = deployment.binaries / name
        inside = command or [f"/usr/local/bin/{name}"]
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--propagation", "private", "sh", "-c", ENTER, "sh",
                 root, keys, secrets or "", binary, f"{USER}:{USER}", *inside]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, env={**ENGINE, **environment})

    def said(self):
        return self.log.read_text()

    def inner(self):
        """The process that is number 1 in the container."""
        outer = self.process.pid
        children = pathlib.Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        return int(children[0])

    def stop(self, within):
        """SIGTERM to number 1, as every engine does; how it ended."""
        os.kill(self.inner(), signal.SIGTERM)
        return self.process.wait(within)

    def kill(self):
        self.process.kill()
        self.process.wait()


def ask(method, path, body=None, token=None):
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:3000{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


class Mesh(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="switchboard-containers-"))
        cls.folder.chmod(0o755)
        cls.addClassCleanup(subprocess.run, ["rm", "-rf", cls.folder], check=True)
        (cls.folder / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *NAMES)))
        cls.state = cls.folder / "state"
        environment = {**os.environ, "DEPLOY_STATE": str(cls.state), "DEPLOY_ENV_FILE": str(cls.folder / "env")}
        deployment.run("deploy/first-run", deployment.binaries / "switchboard", env=environment)
        cls.start_postgres()
        cls.start_redis()
        cls.start_mongodb()

    @classmethod
    def daemon(cls, name, *words, **options):
        """A store, which ends with this process."""
        with (cls.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.kill)
        return process

    @classmethod
    def start_postgres(cls):
        """As its image does at its first start: a superuser with a password, no trust by TCP, and the script of roles."""
        binaries = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))[-1]
        home = cls.folder / "postgres"
        home.mkdir()
        password = home / "password"
        password.write_text((cls.state / "secrets/postgres_password").read_text())
        subprocess.run(["chown", "-R", "postgres", home], check=True)
        as_postgres = ["runuser", "-u", "postgres", "--"]
        words = [*as_postgres, binaries / "initdb", "-D", home / "data", "-U", "switchboard", "--pwfile", password, "-E", "UTF8",
                 "--no-sync", "--auth-local=trust", *compose()["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()]
        deployment.run(*words, cwd=home)
        cls.daemon("postgres", *as_postgres, binaries / "postgres", "-D", home / "data", "-k", home, cwd=home)
        environment = {**os.environ, "PGHOST": str(home)}
        ready = [binaries / "pg_isready", "-U", "switchboard", "-d", "postgres"]
        wait_for("PostgreSQL", lambda: subprocess.run(ready, env=environment, capture_output=True, check=False).returncode == 0)
        deployment.run(binaries / "createdb", "-U", "switchboard", "switchboard", env=environment)
        environment |= {"POSTGRES_USER": "switchboard", "POSTGRES_DB": "switchboard", "SECRETS": str(cls.state / "secrets"),
                        "PATH": f"{binaries}:{os.environ['PATH']}"}
        deployment.run("sh", "deploy/compose/postgres-init.sh", env=environment)

    @classmethod
    def start_redis(cls):
        command = [word.replace("/run/secrets", str(cls.state / "secrets")) for word in compose()["redis"]["command"]]
        cls.daemon("redis", *command, "--dir", cls.folder)

    @classmethod
    def start_mongodb(cls):
        server = os.environ["MONGODB_SERVER"].format(port=27017, path=cls.folder / "mongodb")
        cls.daemon("mongodb", *shlex.split(server))
        url = cls.state / "secrets/message_store_url"
        url.write_text("mongodb://mongodb:27017/messages?directConnection=true\n")

    def start(self, name, environment, keys, secrets, command=None):
        container = Container(self.folder, name, environment, keys, secrets, command)
        self.addCleanup(container.kill)
        return container

    def secrets(self, name, files):
        """A folder with these secrets of the first run, by the names under which the process finds them."""
        folder = self.folder / f"secrets-{self.id().rsplit('.')[-1]}-{name}"
        for path, secret in files.items():
            at = folder / path
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes((self.state / "secrets" / secret).read_bytes())
            # As Kubernetes does for `fsGroup`: root's, and readable by the process' group. Compose: the user's own.
            os.chown(at, 0, USER)
            at.chmod(0o440)
        folder.mkdir(exist_ok=True)
        return folder

    def assert_works(self, running, started, message_svc_has):
        """All four are ready by the image's own health check; a message goes in and comes out; each ends as asked."""
        for name, container in running.items():
            def ready():
                if container.process.poll() is not None:
                    raise AssertionError(f"{name} ended with {container.process.returncode}:\n{container.said()}")
                probe = self.start(*started[name], command=[f"/usr/local/bin/{name}", "--probe", "ready"])
                return probe.process.wait(PATIENCE) == 0
            wait_for(f"{name} is ready", ready)
        with urllib.request.urlopen("http://127.0.0.1:3001/ready", timeout=20) as answer:
            checks = json.load(answer)["checks"]
        for dependency in message_svc_has:
            self.assertEqual(checks[dependency]["status"], "ok", checks)
        account = ask("POST", "/api/auth/register", {"username": self.word(), "email": f"{self.word()}@example.com",
                                                     "password": "correct horse battery"})
        token = account["accessToken"]
        room = ask("POST", "/api/rooms", {"name": "containers", "roomType": "public"}, token)["room"]["id"]
        ask("POST", f"/api/rooms/{room}/messages", {"content": "on disk"}, token)
        messages = ask("GET", f"/api/rooms/{room}/messages", token=token)["messages"]
        self.assertEqual([message["content"] for message in messages], ["on disk"])
        for name, container in running.items():
            status = pathlib.Path(f"/proc/{container.inner()}/status").read_text()
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            self.assertEqual(set(fields["Uid"].split()), {str(USER)}, name)
            self.assertEqual(int(fields["CapEff"], 16) | int(fields["CapPrm"], 16), 0, name)
            self.assertEqual(fields["NoNewPrivs"], "1", name)
            self.assertEqual(fields["NSpid"].split()[-1], "1", name)
        for name in ("gateway", "message-svc", "user-svc", "auth-svc"):
            container = running[name]
            seconds = int(compose()[name]["stop_grace_period"].rstrip("s"))
            self.assertEqual(container.stop(seconds), 0, container.said())
            self.assertNotIn("Read-only file system", container.said())
            self.assertNotIn("Permission denied", container.said())

    def word(self):
        return "user_" + self.id().rsplit("_", 1)[-1]

    def test_the_processes_of_compose_run_and_stop_in_containers_with_what_the_first_run_made_for_compose(self):
        image, services = dockerfile_environment(), compose()
        shown = dict(line.split("=", 1) for line in (self.folder / "env").read_text().splitlines())
        self.assertEqual((shown["DEPLOY_UID"], shown["DEPLOY_GID"]), (str(USER), str(USER)))
        started = {}
        for name in PROCESSES:
            service = services[name]
            environment = {**image, **deployment.without_variables(service["environment"])}
            secrets = self.secrets(name, {each: each for each in service.get("secrets", [])})
            started[name] = (name, environment, self.state / "keys" / name, secrets)
        # In no order: each waits for what it needs.
        running = {name: self.start(*started[name]) for name in PROCESSES}
        self.assert_works(running, started, ["redis", "store"])

    def test_the_operators_commands_run_in_a_container_on_the_stores_alone_on_operator(self):
        service = compose()["operator"]
        environment = {**dockerfile_environment(), **deployment.without_variables(service["environment"])}
        secrets, keys = self.secrets("operator", {each: each for each in service["secrets"]}), self.state / "keys/operator"
        def told(*words):
            container = self.start("switchboard", environment, keys, secrets, ["/usr/local/bin/switchboard", *words])
            return container.process.wait(PATIENCE), container.said()
        code, said = told("migrate", "--json")
        self.assertEqual(code, 0, said)
        self.assertEqual(set(json.loads(said.splitlines()[-1])), {"auth", "user", "message"})
        code, said = told("users", "promote", "nobody", "admin")
        self.assertEqual(code, 2, said)
        self.assertIn("no account has this username", said)

    def test_the_pods_of_the_development_overlay_run_and_stop_in_containers_on_kubernetes(self):
        objects, image = rendered("development"), dockerfile_environment()
        maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
        urls = {"auth-svc": "auth_store_url", "user-svc": "user_store_url", "message-svc": "message_postgres_url"}
        started = {}
        for each, pod, container in containers(objects):
            name = each["metadata"]["name"]
            if name not in PROCESSES:
                continue
            self.assertEqual(pod["securityContext"]["runAsUser"], USER)
            self.assertEqual(pod["securityContext"]["fsGroup"], USER)
            environment = dict(image)
            for source in container["envFrom"]:
                environment |= maps[source["configMapRef"]["name"]]
            environment |= {entry["name"]: entry["value"] for entry in container.get("env", [])}
            secrets = self.secrets(name, {"switchboard/store-url": urls[name]} if name in urls else {})
            started[name] = (name, environment, self.mounted_keys(name), secrets)
        self.assert_works({name: self.start(*started[name]) for name in PROCESSES}, started, ["store"])

    def mounted_keys(self, name):
        """The keys as the kubelet mounts them: root's, readable by `fsGroup`, behind symbolic links."""
        folder = self.folder / f"mounted-{name}"
        version = folder / "..2026_01_01"
        version.mkdir(parents=True)
        (folder / "..data").symlink_to(version.name)
        for path in (self.state / "keys" / name).iterdir():
            at = version / path.name
            at.write_bytes(path.read_bytes())
            os.chown(at, 0, USER)
            at.chmod(0o440)
            (folder / path.name).symlink_to(f"..data/{path.name}")
        return folder

    def test_a_process_with_the_keys_of_another_or_without_a_secret_ends_and_says_which_is_missing(self):
        environment = {**dockerfile_environment(), **deployment.without_variables(compose()["auth-svc"]["environment"])}
        good = self.secrets("auth-svc", {"auth_store_url": "auth_store_url"})
        for keys, secrets, sentence in [("gateway", good, "service-auth-svc.key is missing"),
                                        ("auth-svc", self.secrets("none", {}), "auth.store_url")]:
            container = self.start("auth-svc", environment, self.state / "keys" / keys, secrets)
            self.assertEqual(container.process.wait(PATIENCE), 2, container.said())
            self.assertIn(sentence, container.said())


def in_namespaces():
    """This program again, where it cannot disturb the machine and what it starts cannot outlive it."""
    words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, __file__, "--inside"]
    os.execvp(words[0], [*words, *sys.argv[1:]])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] != "--inside":
        if os.geteuid() != 0:
            sys.exit("namespaces are root's to make: run it as root")
        if "MONGODB_SERVER" not in os.environ:
            sys.exit("start the stores first: eval \"$(tests/stores start)\"")
        in_namespaces()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    sys.argv.pop(1)
    deployment.binaries = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)
