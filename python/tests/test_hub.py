"""The hub, played by a small server on this machine."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import delta_dct
import pytest

pytest.importorskip("huggingface_hub")
pytest.importorskip("fsspec")


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as uploads and downloads of a model need."""

    files: dict[str, dict[str, bytes]] = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            wish = json.loads(body)
            repo = f"{wish['organization']}/{wish['name']}" if wish.get("organization") else wish["name"]
            self.files.setdefault(repo, {})
            return self.answer({"url": f"http://{self.headers['Host']}/{repo}", "id": repo})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        repo = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            wishes = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wishes]
            return self.answer({"files": modes})
        for line in body.splitlines():
            operation = json.loads(line)
            if operation["key"] == "file":
                value = operation["value"]
                self.files[repo][value["path"]] = base64.b64decode(value["content"])
        url = f"http://{self.headers['Host']}/{repo}/commit/{'0' * 40}"
        return self.answer({"commitUrl": url, "commitOid": "0" * 40, "success": True})

    def do_GET(self):
        self.get()

    def do_HEAD(self):
        self.get()

    def get(self):
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            repo = "/".join(path.split("/")[3:5])
            if repo not in self.files:
                return self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            if "/tree/" in path:
                entry = lambda name, content: {"type": "file", "path": name, "size": len(content), "oid": "0"}  # noqa: E731
                return self.answer([entry(*item) for item in self.files[repo].items()])
            siblings = [{"rfilename": name} for name in self.files[repo]]
            return self.answer({"id": repo, "modelId": repo, "sha": "0" * 40, "siblings": siblings})
        repo, file = "/".join(path.split("/")[1:3]), path.partition("/resolve/")[2].partition("/")[2]
        if file not in self.files.get(repo, {}):
            return self.answer({}, 404, {"X-Error-Code": "EntryNotFound"})
        content = self.files[repo][file]
        etag = hashlib.sha1(content).hexdigest()
        return self.answer(content, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": "0" * 40})

    def answer(self, content, status=200, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def python(tmp_path):
    """Runs code in a process whose hub is on this machine; gives what it prints."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hub"),
        "HF_TOKEN": "hf_test",
        "HF_HUB_DISABLE_XET": "1",
    }

    def run(code, *arguments):
        line = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    yield run
    server.shutdown()
    server.server_close()


def test_a_delta_goes_to_the_hub_and_comes_back(python, delta, base, tmp_path):
    code = """
import sys
import delta_dct
from delta_dct.hub import pull, push
delta, base, out = sys.argv[1:]
print(push(delta, "me/tuned", "org/base", figures={"accuracy": "97%"}))
print(pull("me/tuned", out))
print(delta_dct.verify("hf://me/tuned/demo.ddct", base)["decoded"])
"""
    out = tmp_path / "pulled.ddct"
    assert python(code, delta, base, out) == ["me/tuned/demo.ddct", str(out), "True"]
    assert out.read_bytes() == delta.read_bytes()
    assert "accuracy" in Hub.files["me/tuned"]["README.md"].decode()


def test_models_on_the_hub_are_fetched_without_what_is_not_needed(python, delta, base):
    files = {path.name: path.read_bytes() for path in base.iterdir()}
    Hub.files["org/base"] = {**files, "pytorch_model.bin": b"other", "onnx/model.onnx": b"other"}
    code = """
import sys
import delta_dct
print(delta_dct.verify(sys.argv[1], "org/base")["decoded"])
print(sorted(path.name for path in delta_dct.Checkpoint.open("org/base@main").path.iterdir()))
"""
    assert python(code, delta) == ["True", str(sorted(files))]


def test_a_manifest_takes_ids(python, base, finetuned, delta, tmp_path):
    Hub.files["org/base"] = {path.name: path.read_bytes() for path in base.iterdir()}
    Hub.files["org/tuned"] = {path.name: path.read_bytes() for path in finetuned.iterdir()}
    manifest = tmp_path / "models.jsonl"
    manifest.write_text('{"base": "org/base", "finetuned": "org/tuned"}\n{"base": "org/base", "finetuned": "org/none"}')
    code = """
import sys
from delta_dct import catalog
report = catalog.compress_catalog(*sys.argv[1:])
print(report["done"], [record["name"] for record in report["failed"]])
"""
    assert python(code, manifest, tmp_path / "out") == ["1 ['org/none']"]
    about = delta_dct.inspect(tmp_path / "out/org/tuned.ddct")
    assert about["tensors"] == delta_dct.inspect(delta)["tensors"]


def test_what_the_hub_does_not_have_is_one_line(python):
    code = """
import delta_dct
try:
    delta_dct.inspect("me/nothing")
except delta_dct.IoError as error:
    print(error)
"""
    (line,) = python(code)
    assert line.startswith("me/nothing: there is no such path here, and the hub says: ")
