"""How long a newcomer waits: a warm start of the lab over the built-in model."""

import os
import socket
import subprocess
import sys
import time

import httpx

from superpose.engines.torch_engine_gguf import to_folder
from superpose.models import DEMO, cache_dir, resolve


def test_warm_start_of_the_demo(tmp_path):
    to_folder(resolve(DEMO).path, cache_dir(), None)  # warm
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "SUPERPOSE_DATA": str(tmp_path),
        "SUPERPOSE_CACHE": str(cache_dir()),
        "PYTHONPATH": "src",
    }
    begun = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, "-m", "superpose", "serve", "--no-browser", "--port", str(port)], env=environment
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
            while True:
                try:
                    assert http.get("/").status_code == 200
                    break
                except httpx.ConnectError:
                    assert server.poll() is None
                    time.sleep(0.02)
            page = time.monotonic() - begun
            status = "loading"
            while status == "loading":
                (place,) = [m for m in http.get("/api/models").json()["models"] if m["name"] == DEMO]
                status = place["status"]
                if status == "loading":  # what waits is told so, in words
                    refused = http.post("/api/runs", json={"user": "x"})
                    assert (refused.status_code, refused.headers.get("retry-after")) in [(503, "1"), (201, None)]
                time.sleep(0.05)
            assert status == "ready", place["error"]
            print(f"page after {page:.1f} s, model after {time.monotonic() - begun:.1f} s")
            assert page < 10
            run = http.post("/api/runs", json={"user": "What is 25 + 17?", "T_e": 3, "T_total": 6}).json()["id"]
            while (record := http.get(f"/api/runs/{run}").json())["status"] in ("queued", "running"):
                time.sleep(0.05)
            assert record["status"] == "finished"
            assert record["engine"]["model"] == DEMO
    finally:
        server.terminate()
        server.wait(15)
