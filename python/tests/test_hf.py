"""The extension `hf delta ...` of the Hugging Face command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

pytest.importorskip("huggingface_hub")


@pytest.mark.skipif(os.name == "nt", reason="hf has no extensions that are scripts on Windows")
def test_hf_delta_is_the_command(tmp_path):
    folder = tmp_path / ".local/share/hf/extensions/hf-delta"
    folder.mkdir(parents=True)
    shutil.copy(REPOSITORY / "python/hf-delta/hf-delta", folder)
    about = json.loads((REPOSITORY / "python/hf-delta/manifest.json").read_text())
    # What `hf extensions install someone/hf-delta` notes down.
    about |= {"owner": "someone", "repo": "hf-delta", "repo_id": "someone/hf-delta", "short_name": "delta", "type": "binary"}
    about |= {"executable_path": str(folder / "hf-delta"), "installed_at": "2026-01-01T00:00:00+00:00"}
    (folder / "manifest.json").write_text(json.dumps(about))

    def hf(*words, path):
        environment = os.environ | {"HOME": str(tmp_path), "PATH": path, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        line = [sys.executable, "-c", "from huggingface_hub.cli.hf import main; main()", *words]
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)

    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    found = hf("delta", "methods", "--json", path=path)
    assert found.returncode == 0, found.stderr
    assert "lossless" in [method["name"] for method in json.loads(found.stdout)]
    assert hf("delta", "nonsense", path=path).returncode == 2
    missing = hf("delta", "methods", path="/usr/bin:/bin")
    assert missing.returncode == 127 and "install the package" in missing.stderr
