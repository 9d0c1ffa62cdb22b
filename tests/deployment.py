#!/usr/bin/env python3
"""The files of deployment against their schemas, against each other and against the product: Dockerfile, compose.yaml, k8s/,
alerts, dashboards.

    tests/deployment.py FOLDER      the folder that has the binary `switchboard`

It needs hadolint, promtool, kubectl, kubernetes-validate and check-jsonschema on the PATH (`.ci/run` pins them) and asks no engine and
no cluster. What those tools cannot know is checked here: that every container is hardened, that every variable is a
setting of the product, that ports and network edges are the product's, and that each process gets its own keys alone.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
import warnings

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROCESSES = ("gateway", "auth-svc", "user-svc", "message-svc")
OVERLAYS = ("development", "production")
# Kinds that operators of the cluster bring; no schema of Kubernetes has them.
FOREIGN = {"PrometheusRule", "ServiceMonitor", "ServersTransport", "TLSOption"}
# The oldest Kubernetes that has all we use (`preStop.sleep` for good).
KUBERNETES = "1.34"
# Who calls whom: DESIGN's edges, and auth-svc, which has message-svc erase who is deleted. Other teams come by a label of their namespace.
CALLS = {
    ("gateway", "auth-svc"), ("gateway", "user-svc"), ("gateway", "message-svc"),
    ("auth-svc", "user-svc"), ("auth-svc", "message-svc"), ("user-svc", "auth-svc"),
    ("message-svc", "auth-svc"), ("message-svc", "user-svc"),
}

binaries = None


def run(*command, cwd=ROOT, **options):
    done = subprocess.run(command, cwd=cwd, text=True, capture_output=True, check=False, **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def rendered(overlay):
    return [each for each in yaml.safe_load_all(run("kubectl", "kustomize", f"k8s/overlays/{overlay}")) if each]


def dockerfile_environment():
    """What every image sets; the stage that builds is none of it."""
    stages = (ROOT / "Dockerfile").read_text().partition(" AS base\n")[2]
    text = re.sub(r"\\\n", " ", stages)
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV (.*)$", text, re.M))))


def without_variables(environment):
    """What compose puts into a container when nothing is set but what has no default."""
    return {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", str(value)) for name, value in environment.items()}


def settings(environment):
    """`switchboard config show` under these variables alone: path -> (value, origin)."""
    with tempfile.TemporaryDirectory() as folder:
        given = {}
        for name, value in environment.items():
            if name.endswith("_FILE"):
                # The mounted file is not here: one with a URL of the right kind is.
                path = pathlib.Path(folder, name)
                path.write_text({"REDIS_URL_FILE": "redis://redis"}.get(name, "postgres://a:b@c/d"))
                value = str(path)
            given[name] = value
        shown = run(binaries / "switchboard", "config", "show", env=given)
    pattern = re.compile(r"^(\S+) = (.*?)\s+# (.*)$", re.M)
    return {path: (value, origin) for path, value, origin in pattern.findall(shown)}


def containers(objects):
    for each in objects:
        template = each.get("spec", {}).get("template") if each["kind"] in ("Deployment", "StatefulSet") else None
        if template:
            yield each, template["spec"], template["spec"]["containers"][0]


class Schemas(unittest.TestCase):
    def test_the_dockerfile_passes_hadolint(self):
        run("hadolint", "--failure-threshold", "style", "Dockerfile")

    def test_the_image_is_built_with_the_compiler_of_this_tree(self):
        toolchain = re.search(r'channel = "(.*)"', (ROOT / "rust-toolchain.toml").read_text())[1]
        self.assertIn(f"ARG RUST_VERSION={toolchain}\n", (ROOT / "Dockerfile").read_text())

    def test_the_compose_file_is_one(self):
        run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")

    def test_what_kustomize_renders_are_objects_of_kubernetes(self):
        for overlay in OVERLAYS:
            with self.subTest(overlay), tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                objects = [each for each in rendered(overlay) if each["kind"] not in FOREIGN]
                self.assertGreater(len(objects), 20)
                yaml.safe_dump_all(objects, file)
                file.flush()
                run("kubernetes-validate", "--strict", "--quiet", "--kubernetes-version", KUBERNETES, file.name)

    def test_the_component_for_sockets_adds_its_metric(self):
        with tempfile.TemporaryDirectory(dir=ROOT / "k8s") as folder:
            pathlib.Path(folder, "kustomization.yaml").write_text(
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
                "resources: [../overlays/production]\ncomponents: [../components/scale-on-sockets]\n")
            objects = list(yaml.safe_load_all(run("kubectl", "kustomize", folder)))
        scaler = next(each for each in objects
                      if each["kind"] == "HorizontalPodAutoscaler" and each["metadata"]["name"] == "gateway")
        name = scaler["spec"]["metrics"][1]["pods"]["metric"]["name"]
        self.assertIn(f'gauge!("{name}")', (ROOT / "gateway/src/realtime/meter.rs").read_text())


    def test_the_component_for_traces_names_a_collector_and_lets_pods_reach_it(self):
        with tempfile.TemporaryDirectory(dir=ROOT / "k8s") as folder:
            pathlib.Path(folder, "kustomization.yaml").write_text(
                "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
                "resources: [../overlays/production]\ncomponents: [../components/traces]\n")
            objects = list(yaml.safe_load_all(run("kubectl", "kustomize", folder)))
        environment = next(each["data"] for each in objects if each["metadata"]["name"].startswith("switchboard-environment"))
        shown = settings({name: value for name, value in environment.items() if name.startswith("OTEL_")})
        endpoint = shown["mesh.telemetry.otlp.endpoint"][0].strip('"')
        policy = next(each for each in objects if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "traces")
        self.assertTrue(endpoint.endswith(f":{policy['spec']['egress'][0]['ports'][0]['port']}"), endpoint)


def documented_metrics():
    """Every metric of docs/metrics.md, and for a histogram what Prometheus makes of it."""
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.M)
    ends = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("",), "gauge": ("",)}
    return {name + end for name, kind in rows for end in ends[kind]}, {name for name, _ in rows}


class Observing(unittest.TestCase):
    """Alerts, dashboards and the runbook: each is there, each fires, and all speak of metrics that there are."""

    NAME = re.compile(r"\b(?:switchboard_[a-z_]+|(?:http|rpc)_server_[a-z_]+)\b")
    ALERTS = ROOT / "deploy/prometheus/alerts.yaml"

    def alerts(self):
        return yaml.safe_load(self.ALERTS.read_text())["groups"]

    def test_the_alerts_are_rules_and_each_fires_on_what_it_is_for(self):
        run("promtool", "check", "rules", str(self.ALERTS))
        run("promtool", "test", "rules", "deploy/prometheus/alerts.test.yaml")
        tried = yaml.safe_load((ROOT / "deploy/prometheus/alerts.test.yaml").read_text())["tests"]
        fired = {case["alertname"] for test in tried for case in test["alert_rule_test"] if case.get("exp_alerts")}
        self.assertEqual(fired, {rule["alert"] for group in self.alerts() for rule in group["rules"]})

    def test_prometheus_is_configured_as_it_understands(self):
        with tempfile.TemporaryDirectory() as folder:
            for source in ("deploy/compose/prometheus.yaml", "deploy/prometheus/alerts.yaml"):
                text = (ROOT / source).read_text().replace("/etc/prometheus/", f"{folder}/")
                pathlib.Path(folder, pathlib.Path(source).name).write_text(text)
            run("promtool", "check", "config", f"{folder}/prometheus.yaml")

    def test_each_alert_has_its_entry_in_the_runbook_and_each_entry_its_alert(self):
        entries = re.findall(r"^## (Switchboard\w+)$", (ROOT / "docs/runbook.md").read_text(), re.M)
        rules = [rule for group in self.alerts() for rule in group["rules"]]
        self.assertEqual(sorted(entries), sorted(rule["alert"] for rule in rules))
        for rule in rules:
            self.assertEqual(rule["annotations"]["runbook"], f"docs/runbook.md#{rule['alert'].lower()}")
            self.assertIn(rule["labels"]["severity"], ("page", "ticket"))

    def test_alerts_and_dashboards_ask_for_metrics_that_there_are(self):
        series, _ = documented_metrics()
        dashboard = json.loads((ROOT / "deploy/grafana/switchboard.json").read_text())
        asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        self.assertGreater(len(asked), 40)
        asked += [rule["expr"] for group in self.alerts() for rule in group["rules"]]
        for expression in asked:
            names = set(self.NAME.findall(expression))
            self.assertLessEqual(names, series, expression)
            self.assertTrue(names or "up{" in expression, expression)
        # Both ways: what is measured can be seen.
        text = " ".join(asked)
        for name in documented_metrics()[1]:
            self.assertIn(name, text, "no panel and no alert has it")

    def test_the_dashboards_expressions_are_prometheus_own(self):
        dashboard = json.loads((ROOT / "deploy/grafana/switchboard.json").read_text())
        asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        rules = [{"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "5m").replace("$instance", ".*")}
                 for number, text in enumerate(asked)]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}, file)
            file.flush()
            run("promtool", "check", "rules", file.name)

    def test_the_runbook_speaks_of_metrics_that_there_are(self):
        for name in set(self.NAME.findall((ROOT / "docs/runbook.md").read_text())):
            self.assertIn(name, documented_metrics()[1])

    def test_kubernetes_has_the_same_alerts(self):
        rule = yaml.safe_load((ROOT / "k8s/components/monitoring/prometheus-rule.yaml").read_text())
        self.assertEqual(rule["spec"]["groups"], self.alerts())


class Hardening(unittest.TestCase):
    def test_every_container_of_compose_is_denied_what_it_does_not_need(self):
        for name, service in compose().items():
            with self.subTest(name):
                self.assertIs(service["read_only"], True)
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertIn("no-new-privileges:true", service["security_opt"])
                self.assertTrue(service["user"].startswith("${DEPLOY_UID:?"))
                for limit in ("mem_limit", "cpus", "pids_limit"):
                    self.assertIn(limit, service)
                self.assertRegex(service["image"], r":(v?\d|\$\{DEPLOY_TAG)", "pinned by its tag")
                for volume in service.get("volumes", []):
                    writes = volume["source"].startswith("${DEPLOY_STATE}/data/")
                    self.assertEqual(volume.get("read_only", False), not writes, volume["source"])

    def test_every_pod_is_restricted(self):
        for overlay in OVERLAYS:
            for each, pod, container in containers(rendered(overlay)):
                with self.subTest(f"{overlay} {each['metadata']['name']}"):
                    self.assertIs(pod["automountServiceAccountToken"], False)
                    self.assertIs(pod["securityContext"]["runAsNonRoot"], True)
                    self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                    context = container["securityContext"]
                    self.assertIs(context["allowPrivilegeEscalation"], False)
                    self.assertIs(context["readOnlyRootFilesystem"], True)
                    self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                    self.assertIn("memory", container["resources"]["limits"])
                    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                        self.assertIn(probe, container)

    def test_no_secret_is_written_down(self):
        texts = [ROOT / "compose.yaml", ROOT / "Dockerfile", *ROOT.glob("k8s/**/*.*"), *ROOT.glob("deploy/compose/**/*.*")]
        self.assertGreater(len(texts), 20)
        for path in texts:
            for line in re.sub(r"(?m)^\s*#.*$", "", path.read_text()).splitlines():
                self.assertNotRegex(line, r"(?i)(password|secret|token|key)\w*[:=]\s*['\"]?[0-9A-Za-z+]{12,}", str(path))
                self.assertNotRegex(line, r"://[^/\s:@{$]+:[^/\s@{$]+@", str(path))

    def test_no_account_is_there_before_somebody_registers(self):
        """Of the tables of accounts, migrations write to the one that numbers revocations alone."""
        migrations = sorted(ROOT.glob("auth-svc/migrations/*/*.sql"))
        self.assertGreater(len(migrations), 6)
        for path in migrations:
            written = re.findall(r"(?i)\binsert\s+into\s+(\w+)", path.read_text())
            self.assertLessEqual(set(written), {"revocation_head"}, path)

    def test_a_process_has_more_time_to_stop_than_its_steps_take(self):
        shown = settings({})
        steps = sum(int(value) for path, (value, _) in shown.items() if path.startswith("mesh.shutdown."))
        for name in PROCESSES:
            self.assertGreater(int(compose()[name]["stop_grace_period"].rstrip("s")) * 1000, steps)
        for overlay in OVERLAYS:
            for each, pod, container in containers(rendered(overlay)):
                if each["metadata"]["name"] in PROCESSES:
                    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
                    self.assertGreater((pod["terminationGracePeriodSeconds"] - before) * 1000, steps)


class Product(unittest.TestCase):
    def assert_settings(self, environment):
        """Every variable is a setting: `config show` names it as where a value comes from."""
        origins = {origin for _, origin in settings(environment).values()}
        for name in environment:
            self.assertIn(f"environment variable {name}", origins)

    def environments(self):
        image = dockerfile_environment()
        self.assertGreater(len(image), 4)
        for name in (*PROCESSES, "operator"):
            yield f"compose {name}", name, {**image, **without_variables(compose()[name]["environment"])}
        for overlay in OVERLAYS:
            objects = rendered(overlay)
            maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
            for each, _, container in containers(objects):
                if each["metadata"]["name"] in PROCESSES:
                    shared = [maps[source["configMapRef"]["name"]] for source in container["envFrom"]]
                    own = {entry["name"]: entry["value"] for entry in container.get("env", [])}
                    whole = {key: value for part in (image, *shared, own) for key, value in part.items()}
                    yield f"{overlay} {each['metadata']['name']}", each["metadata"]["name"], whole

    def test_every_variable_is_a_setting_and_the_profile_is_production(self):
        seen = 0
        for where, _, environment in self.environments():
            with self.subTest(where):
                self.assert_settings(environment)
                self.assertEqual(environment["SWITCHBOARD_PROFILE"], "production")
            seen += 1
        self.assertEqual(seen, 13)

    def test_a_variable_that_the_product_does_not_know_would_be_found(self):
        with self.assertRaisesRegex(AssertionError, "no such setting"):
            self.assert_settings({"SWITCHBOARD_GATEWAY__NO_SUCH_THING": "1"})
        with self.assertRaises(AssertionError):
            self.assert_settings({"GATEWAY_PORT": "1"})

    def test_ports_and_addresses_are_the_products(self):
        shown = settings({})
        port = lambda path: int(shown[path][0])
        expected = {
            "gateway": (port("gateway.port"), port("gateway.http_port")),
            "auth-svc": (port("auth.grpc_port"), port("auth.http_port")),
            "user-svc": (port("user.grpc_port"), port("user.http_port")),
            "message-svc": (port("message.grpc_port"), port("message.http_port")),
        }
        text = (ROOT / "Dockerfile").read_text()
        for name, ports in expected.items():
            self.assertIn(f"FROM base AS {name}\nCOPY --from=build /out/{name} /usr/local/bin/{name}\n"
                          f"EXPOSE {ports[0]} {ports[1]}\n", text)
        self.assertTrue(compose()["gateway"]["ports"][0].endswith(f":{expected['gateway'][0]}"))
        scrape = yaml.safe_load((ROOT / "deploy/compose/prometheus.yaml").read_text())["scrape_configs"][0]
        asked = {entry["names"][0]: entry["port"] for entry in scrape["dns_sd_configs"]}
        self.assertEqual(asked, {name: ports[1] for name, ports in expected.items()})
        for overlay in OVERLAYS:
            objects = rendered(overlay)
            for each, _, container in containers(objects):
                if each["metadata"]["name"] in expected:
                    self.assertEqual(tuple(entry["containerPort"] for entry in container["ports"]),
                                     expected[each["metadata"]["name"]])
            for each in objects:
                if each["kind"] == "Service" and each["metadata"]["name"] in expected:
                    self.assertEqual(tuple(entry["port"] for entry in each["spec"]["ports"]),
                                     expected[each["metadata"]["name"]])
        for where, _, environment in self.environments():
            for name, variable in (("auth-svc", "AUTH"), ("user-svc", "USER"), ("message-svc", "MESSAGE")):
                self.assertEqual(environment[f"{variable}_SERVICE_URL"], f"https://{name}:{expected[name][0]}", where)

    def test_the_edges_of_the_network_are_those_of_the_design(self):
        for overlay in OVERLAYS:
            policies = [each for each in rendered(overlay) if each["kind"] == "NetworkPolicy"]
            everything = [each for each in policies if each["spec"]["podSelector"] == {}]
            self.assertEqual(everything[0]["spec"], {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
            label = "app.kubernetes.io/name"
            into, out = set(), set()
            for each in policies:
                own = each["spec"]["podSelector"].get("matchLabels", {}).get(label)
                for rule in each["spec"].get("ingress", []):
                    into |= {(peer["podSelector"]["matchLabels"][label], own) for peer in rule["from"]
                             if peer.get("podSelector", {}).get("matchLabels", {}).get(label) and own in PROCESSES}
                for rule in each["spec"].get("egress", []):
                    out |= {(own, peer["podSelector"]["matchLabels"][label]) for peer in rule["to"]
                            if peer.get("podSelector", {}).get("matchLabels", {}).get(label) in PROCESSES}
            self.assertEqual(into, CALLS, overlay)
            self.assertEqual(out, CALLS, overlay)

    def test_networks_of_compose_keep_the_gateway_from_the_stores(self):
        services = compose()
        for name in ("postgres", "mongodb", "redis"):
            self.assertEqual(services[name]["networks"], ["stores"])
            self.assertNotIn("ports", services[name])
        self.assertNotIn("stores", services["gateway"]["networks"])


class WayIn(unittest.TestCase):
    """Where TLS ends: nginx for real, in front of the product; the ingress by what it says."""

    NAME = "chat.example.com"

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        processes = [(name, kind) for name in ("API_GATEWAY", "AUTH_SERVICE", "USER_SERVICE", "MESSAGE_SERVICE")
                     for kind in ("GRPC_PORT", "HTTP_PORT")]
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(len(processes) + 2)]
            cls.plain, cls.tls, *ports = [each.getsockname()[1] for each in sockets]
        names = ["_".join(each).replace("API_GATEWAY_GRPC_PORT", "API_GATEWAY_PORT") for each in processes]
        environment = {**os.environ, **{name: str(port) for name, port in zip(names, ports)},
                       "SWITCHBOARD_DATA": str(cls.folder / "data"), "SWITCHBOARD_GATEWAY__TRUSTED_PROXIES": "127.0.0.1"}
        cls.daemon("switchboard", binaries / "switchboard", "up", env=environment)
        cls.gateway = ports[0]
        cls.start_nginx(cls.gateway)
        cls.wait_for_ready(ports[1])

    @classmethod
    def daemon(cls, name, *words, **options):
        with (cls.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.terminate)

    @classmethod
    def start_nginx(cls, gateway):
        """The file as it is, but for ports, the certificate, and how fast ids of sessions are made."""
        key, certificate = cls.folder / "key.pem", cls.folder / "certificate.pem"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj",
            f"/CN={cls.NAME}", "-addext", f"subjectAltName=DNS:{cls.NAME}", "-keyout", key, "-out", certificate)
        text = (ROOT / "deploy/nginx/switchboard.conf").read_text()
        for old, new in (("listen 80;", f"listen 127.0.0.1:{cls.plain};"), ("listen 443 ssl", f"listen 127.0.0.1:{cls.tls} ssl"),
                         ("server 127.0.0.1:3000;", f"server 127.0.0.1:{gateway};"),
                         (f"/etc/letsencrypt/live/{cls.NAME}/fullchain.pem", str(certificate)),
                         (f"/etc/letsencrypt/live/{cls.NAME}/privkey.pem", str(key))):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        paths = "".join(f"{kind}_temp_path {cls.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (cls.folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {cls.folder}/pid; error_log {cls.folder}/error.log;\n"
            f"events {{ }}\nhttp {{ {paths}\n{text}}}\n")
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert nginx, "nginx is not installed"
        cls.daemon("nginx", nginx, "-p", cls.folder, "-e", cls.folder / "error.log", "-c", cls.folder / "nginx.conf")

    @classmethod
    def wait_for_ready(cls, operations):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{operations}/ready", timeout=5) as answer:
                    if answer.status == 200 and (cls.folder / "pid").exists():
                        return
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError("".join(path.read_text() for path in cls.folder.glob("*.log")))

    def connection(self, **limits):
        """By TLS, checked against the certificate; what it speaks may be limited, also to what is no longer good."""
        context = ssl.create_default_context(cafile=self.folder / "certificate.pem")
        context.set_ciphers(limits.pop("ciphers", "ALL") + ":@SECLEVEL=0")
        for name, value in limits.items():
            setattr(context, name, value)
        plain = socket.create_connection(("127.0.0.1", self.tls), timeout=20)
        self.addCleanup(plain.close)
        secure = context.wrap_socket(plain, server_hostname=self.NAME)
        self.addCleanup(secure.close)
        return secure

    def ask(self, connection, method, path, **headers):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.NAME}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = http.client.HTTPResponse(connection, method=method)
        answer.begin()
        return answer

    def test_nginx_lets_in_by_tls_alone(self):
        for method, path, status, place in (
                ("GET", "/", 308, f"https://{self.NAME}/"), ("GET", "/docs/", 308, f"https://{self.NAME}/docs/"),
                ("GET", "/api/rooms", 403, None), ("POST", "/api/auth/login", 403, None), ("GET", "/sdk/switchboard.js", 403, None),
                ("GET", "/socket/?EIO=4&transport=websocket", 403, None)):
            with self.subTest(path), socket.create_connection(("127.0.0.1", self.plain), timeout=20) as plain:
                answer = self.ask(plain, method, path, Content_Length=0)
                self.assertEqual((answer.status, answer.headers["location"]), (status, place))
        page = self.ask(self.connection(), "GET", "/")
        self.assertEqual(page.status, 200)
        self.assertTrue(page.headers["strict-transport-security"].startswith("max-age=31536000"))
        self.assertEqual(self.ask(self.connection(), "GET", "/api/rooms").status, 401)
        handshake = self.ask(self.connection(), "GET", "/socket/?EIO=4&transport=websocket", Connection="Upgrade",
                             Upgrade="websocket", Sec_WebSocket_Version=13, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
        self.assertEqual(handshake.status, 101)

    def test_nginx_speaks_tls_1_2_and_1_3_with_good_ciphers_alone(self):
        self.assertEqual(self.connection().version(), "TLSv1.3")
        self.assertEqual(self.connection(maximum_version=ssl.TLSVersion.TLSv1_2).cipher()[0], "ECDHE-ECDSA-AES256-GCM-SHA384")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
                with self.assertRaisesRegex(ssl.SSLError, "ALERT_PROTOCOL_VERSION"):
                    self.connection(minimum_version=old, maximum_version=old)
        for weak in ("ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-NULL-SHA"):
            with self.assertRaisesRegex(ssl.SSLError, "ALERT_HANDSHAKE_FAILURE"):
                self.connection(ciphers=weak, maximum_version=ssl.TLSVersion.TLSv1_2)

    def test_of_contradicting_lengths_none_makes_a_second_request(self):
        """Such a request is refused and its connection ended, by the gateway itself and by the proxy in front of it."""
        head = f"POST /api/auth/login HTTP/1.1\r\nHost: {self.NAME}\r\nContent-Type: application/json\r\n"
        second = f"GET /smuggled HTTP/1.1\r\nHost: {self.NAME}\r\nConnection: close\r\n\r\n"
        for name, connect in (("gateway", lambda: socket.create_connection(("127.0.0.1", self.gateway), timeout=20)),
                              ("proxy", self.connection)):
            for lengths, body, expected in (
                    ("Content-Length: 2", "{}", [b"400", b"404"]),  # two good requests in a row are two
                    ("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n", [b"400"]),
                    ("Transfer-Encoding: chunked\r\nContent-Length: 0", "2\r\n{}\r\n0\r\n\r\n", [b"400"]),
                    ("Content-Length: 2\r\nContent-Length: 40", "{}", [b"400"])):
                with self.subTest(f"{name} {lengths}"), connect() as connection:
                    connection.sendall(f"{head}{lengths}\r\n\r\n{body}{second}".encode())
                    said = b""
                    while more := connection.recv(65536):
                        said += more
                    self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", said), expected)

    def test_the_way_in_is_by_tls_with_a_certificate_of_a_public_authority(self):
        objects = {(each["kind"], each["metadata"]["name"]): each for each in rendered("production")}
        ingress = objects["Ingress", "gateway"]
        said = ingress["metadata"]["annotations"]
        self.assertEqual(said["traefik.ingress.kubernetes.io/router.entrypoints"], "websecure", "none of plain HTTP")
        self.assertEqual(said["traefik.ingress.kubernetes.io/router.tls"], "true")
        self.assertTrue(said["cert-manager.io/cluster-issuer"].startswith("letsencrypt"))
        hosts = {rule["host"] for rule in ingress["spec"]["rules"]}
        self.assertEqual(hosts, {host for entry in ingress["spec"]["tls"] for host in entry["hosts"]})
        namespace, option = said["traefik.ingress.kubernetes.io/router.tls.options"].removesuffix("@kubernetescrd").split("-")
        tls = objects["TLSOption", option]
        self.assertEqual((tls["metadata"]["namespace"], tls["spec"]["minVersion"]), (namespace, "VersionTLS12"))
        for suite in tls["spec"]["cipherSuites"]:
            self.assertRegex(suite, "^TLS_ECDHE_(ECDSA|RSA)_WITH_(AES_(128|256)_GCM|CHACHA20_POLY1305)_SHA(256|384)$")
        self.assertEqual([each for each in objects if each[0] in ("Ingress", "IngressRoute")], [("Ingress", "gateway")])
        for overlay in OVERLAYS:
            for each in rendered(overlay):
                if each["kind"] == "Service":
                    self.assertNotIn(each["spec"].get("type"), ("NodePort", "LoadBalancer"), each["metadata"]["name"])
        for name, service in compose().items():
            for port in service.get("ports", []):
                self.assertRegex(port, r"(^|:-)127\.0\.0\.1:", f"{name} is open to this machine alone")
        self.assertIn("/etc/letsencrypt/", (ROOT / "deploy/nginx/switchboard.conf").read_text())


class Secrets(unittest.TestCase):
    """The first run, with the real binary, and what Kubernetes is given of it."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.state = pathlib.Path(cls.folder.name, "state")
        cls.environment = {**os.environ, "DEPLOY_STATE": str(cls.state),
                           "DEPLOY_ENV_FILE": str(pathlib.Path(cls.folder.name, ".env"))}
        run("deploy/first-run", binaries / "switchboard", env=cls.environment)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def files(self):
        return {path: path.read_bytes() for path in self.state.rglob("*") if path.is_file()}

    def test_only_the_owner_may_read_what_the_first_run_makes(self):
        self.assertGreater(len(self.files()), 30)
        for path in [self.state, *self.state.rglob("*")]:
            open_to = 0o077 if path.suffix != ".pub" else 0o022
            self.assertEqual(path.stat().st_mode & open_to, 0, path)

    def test_a_second_run_changes_nothing(self):
        before = self.files()
        run("deploy/first-run", binaries / "switchboard", env=self.environment)
        self.assertEqual(self.files(), before)

    # What a process shows the others, by cert-manager's names; the key of who signs them stays where no process reads it.
    CERTIFICATE = {"ca.crt", "tls.crt", "tls.key"}

    def test_the_authority_signs_a_certificate_for_each_process_and_no_process_has_its_key(self):
        authority = self.state / "all/tls/ca.crt"
        for name in (*PROCESSES, "operator"):
            certificate = self.state / "keys" / name / "tls.crt"
            run("openssl", "verify", "-CAfile", authority, certificate)
            names = run("openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName")
            self.assertEqual(re.findall(r"URI:(\S+)", names), [f"spiffe://switchboard/{name}"])
        key = (self.state / "all/tls/ca.key").read_bytes()
        self.assertEqual([path for path, text in self.files().items() if text == key], [self.state / "all/tls/ca.key"])

    def test_each_process_gets_its_own_private_keys_alone_and_all_public_ones(self):
        owners = {}
        public = {path.name for path in (self.state / "all/keys").glob("*.pub")}
        for name in PROCESSES:
            there = {path.name for path in (self.state / "keys" / name).iterdir()}
            self.assertLessEqual(public | self.CERTIFICATE, there)
            for file in self.CERTIFICATE:
                own = (self.state / "all/tls" / name / file).read_bytes()
                self.assertEqual((self.state / "keys" / name / file).read_bytes(), own)
            there -= self.CERTIFICATE
            for key in there - public:
                self.assertNotIn(key, owners, f"{key} is {owners.get(key)}'s")
                owners[key] = name
        private = {path.name for path in (self.state / "all/keys").iterdir()} - public
        self.assertEqual(set(owners), private, "every key has its process")
        self.assertEqual(owners["auth-access.key"], "auth-svc")
        self.assertEqual(owners["gateway-ws.secret"], "gateway")

    def test_every_secret_of_compose_is_made(self):
        document = yaml.safe_load((ROOT / "compose.yaml").read_text())
        for name, secret in document["secrets"].items():
            self.assertEqual(secret["file"], f"${{DEPLOY_STATE}}/secrets/{name}")
            self.assertTrue((self.state / "secrets" / name).is_file(), name)
        used = {name for service in document["services"].values() for name in service.get("secrets", [])}
        self.assertEqual(used, set(document["secrets"]))

    def test_kubernetes_is_given_every_secret_that_its_pods_mount(self):
        for overlay, namespace in (("development", "switchboard-dev"), ("production", "switchboard")):
            environment = dict(self.environment)
            if overlay == "production":
                url = self.state / "secrets/auth_store_url"
                for name in ("AUTH_STORE_URL", "USER_STORE_URL", "MESSAGE_STORE_URL", "REDIS_URL"):
                    environment[f"{name}_FILE"] = str(url)
            printed = run("deploy/kubernetes-secrets", namespace, env=environment)
            made = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(printed) if each}
            for (_, name), each in made.items():
                self.assertEqual(each["metadata"]["namespace"], namespace, name)
            objects = rendered(overlay)
            there = {(each["kind"], each["metadata"]["name"]) for each in objects} | set(made)
            for each, pod, container in containers(objects):
                sources = [source for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", [volume])]
                for source in sources:
                    if "secret" in source:
                        name = source["secret"].get("name") or source["secret"]["secretName"]
                        self.assertIn(("Secret", name), there)
                    if "configMap" in source:
                        self.assertIn(("ConfigMap", source["configMap"]["name"]), there)
                for entry in container.get("env", []):
                    folder, _, file = str(entry["value"]).rpartition("/")
                    if folder == "/run/secrets/switchboard":
                        store = made["Secret", f"switchboard-store-{each['metadata']['name']}"]
                        self.assertIn(file, store["data"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    binaries = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)
