"""The page is made of the files that are served, asks what there is, and may do nothing else."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from starlette.testclient import TestClient

from tl_keras.deploy.serve.page import PAGE_FILES
from tl_keras.evaluation.explain.overlay import COLOURS, DIMMED, MOST_COVERED

Serve = Callable[..., tuple[TestClient, Any]]


@pytest.fixture
def parts(serve: Serve) -> dict[str, str]:
    """Address -> text."""
    client, _ = serve()
    return {address: client.get(address).text for address in PAGE_FILES}


def test_its_files_are_served_and_no_others(serve: Serve) -> None:
    client, service = serve()
    for address, (_, kind) in PAGE_FILES.items():
        found = client.get(address)
        assert found.status_code == 200
        assert found.headers["content-type"] == f"{kind}; charset=utf-8"
        assert found.headers["x-content-type-options"] == "nosniff"
    for address in ("/page.html", "/page.py", "/page_files/page.js", "/page.js/x", "/../limits.py", "/page_files"):
        found = client.get(address)
        assert (found.status_code, list(found.json())) == (404, ["error"])
    assert f'data-most-bytes="{service.bodies.most_bytes}" data-shows-photos="false"' in client.get("/").text


def test_it_asks_no_other_server_and_runs_no_code_but_its_own(serve: Serve, parts: dict[str, str]) -> None:
    client, _ = serve()
    rules = client.get("/").headers
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in rules["content-security-policy"]
    assert "unsafe" not in rules["content-security-policy"]
    assert rules["permissions-policy"].startswith("camera=(self), ")
    for text in parts.values():
        assert "http://" not in text
        assert "https://" not in text
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", parts["/"])  # the rules forbid them


def test_its_parts_fit_together(parts: dict[str, str]) -> None:
    scripts = {address: text for address, text in parts.items() if address.endswith(".js")}
    named = set(re.findall(r'(?:src|href)="([^"]+)"', parts["/"]))
    imported = {name for text in scripts.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert named | imported == {address[1:] for address in PAGE_FILES} - {""}
    for text in scripts.values():
        for name in re.findall(r'\bid\("([^"]+)"\)', text):
            assert f'id="{name}"' in parts["/"]
        for names, source in re.findall(r'import \{([^}]+)\} from "\./([^"]+)"', text):
            for name in names.split(","):
                assert re.search(rf"export (async )?(function|const|class) {name.strip()}\b", scripts[f"/{source}"])


def test_a_map_has_the_colours_of_explain(parts: dict[str, str]) -> None:
    text = parts["/heat_map.js"]
    numbers = re.search(r"INFERNO = \[(.*)\];", text)
    assert numbers
    stops = np.array([int(each) for each in re.findall(r"\d+", numbers[1])]).reshape(-1, 3)
    np.testing.assert_allclose(stops, 255 * colormaps[COLOURS](np.linspace(0, 1, len(stops)))[:, :3], atol=0.51)
    assert f"DIMMED = {DIMMED}, MOST_COVERED = {MOST_COVERED};" in text
