"""`simmer score`: every good row is answered in its place, every bad one says why, and no failure is half a truth."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from pipeline.bundle import Bundle
from pipeline.config import ConfigError
from serving import cli
from serving.policy import load_policy
from serving.scorer import Scorer
from tests.conftest import ROOT

SIMMER = Path(sys.executable).parent / "simmer"

Simmer = Callable[..., Result]


@pytest.fixture
def simmer(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Simmer:
    """Runs `simmer` in this process, on the bundle that is loaded already."""

    def loaded(model: Path, threads: int, all_heads: bool) -> Scorer:
        return Scorer(bundle, load_policy(bundle.card.labels), all_heads)

    monkeypatch.setattr(cli, "load_scorer", loaded)
    monkeypatch.setattr(cli, "served_bundle", lambda _: bundle.path)  # there need be none where the configuration says
    return run


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """The result of `simmer` with these arguments, loading whatever bundle they name."""
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=stdin)


def started(*arguments: object) -> subprocess.Popen[bytes]:
    """`simmer` as a process of its own, as a terminal starts it: a suite run in the background ignores SIGINT."""
    command = [str(SIMMER), *(str(argument) for argument in arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, preexec_fn=heed_interrupts)


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def row(row_id: str, text: object = "Where is my parcel?", **more: object) -> dict[str, object]:
    return {"id": row_id, "text": text, **more}


def talk(row_id: str, *turns: tuple[str, object]) -> dict[str, object]:
    return {"id": row_id, "turns": [{"role": role, "text": text} for role, text in turns]}


def lines(*rows: object) -> bytes:
    """JSON lines; bytes are taken as they are."""
    return b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows)


def written(path: Path, *rows: object) -> Path:
    path.write_bytes(lines(*rows))
    return path


def read(output: bytes) -> list[dict[str, Any]]:
    """The rows of an output, which is strict UTF-8 and ends with a line break."""
    assert output.endswith(b"\n") or not output
    return [json.loads(line) for line in output.decode("utf-8").splitlines()]


def ids(rows: Iterable[dict[str, Any]]) -> list[Any]:
    return [found["id"] for found in rows]


def assert_stopped(result: Result, *named: str) -> None:
    """Nothing could be done, and one line says why."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    message = result.stderr.strip()
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1
    assert all(name in message for name in named), message


def test_good_rows_are_answered_in_order_around_bad_ones(tmp_path: Path, bundle_path: Path) -> None:
    """The real thing, once: a process, a file in, a file out."""
    source = written(
        tmp_path / "in.jsonl",
        row("a"),
        row("b", 5),
        b"not json",
        b"",
        talk("c", ("customer", "Hello?"), ("agent", "Hi!"), ("customer", "Where is it?")),
        row("d", "Guten Tag, mein Paket ist immer noch nicht angekommen und niemand antwortet."),
    )
    process = started("score", source, "-o", tmp_path / "out.jsonl", "--model", bundle_path)
    stdout, stderr = process.communicate(timeout=60)
    found = read((tmp_path / "out.jsonl").read_bytes())
    assert process.returncode == 1
    assert ids(found) == ["a", "b", None, "c", "d"]
    assert [list(bad) for bad in found[1:3]] == [["id", "line", "error"]] * 2
    assert [bad["line"] for bad in found[1:3]] == [2, 3]
    assert [good["turn"] for good in found if "turn" in good] == [0, 2, 0]
    assert found[4]["abstained"]["reason"] == "language"
    assert (stdout, b"3 answers, 2 rows with errors" in stderr) == (b"", True)
    assert b"Traceback" not in stderr


def test_standard_input_and_output(bundle_path: Path) -> None:
    process = started("score", "-", "-o", "-", "--model", bundle_path)
    stdout, stderr = process.communicate(lines(row("a"), row("b")), timeout=60)
    assert process.returncode == 0, stderr
    assert ids(read(stdout)) == ["a", "b"]
    assert b"2 answers" in stderr


BAD = [
    (row("x", 5), "x", "text"),
    (row("x", None), "x", "text"),
    (row("x", ["hi"]), "x", "text"),
    (row("x", "a" * 1_000_000), "x", "text"),
    ({"text": "hi"}, None, "id"),
    (row(""), "", "id"),
    ({"id": 7, "text": "hi"}, None, "id"),
    ({"id": None, "text": "hi"}, None, "id"),
    (row("i" * 201), "i" * 200, "id"),
    ({"id": "x"}, "x", "turns"),
    ({"id": "x", "turns": []}, "x", "turns"),
    ({"id": "x", "turns": "hi"}, "x", "turns"),
    ({"id": "x", "text": "hi", "turns": []}, "x", "text"),
    (talk("x", ("boss", "hi")), "x", "turns.0.role"),
    (talk("x", ("customer", "hi"), ("agent", 1)), "x", "turns.1.text"),
    ({"id": "x", "turns": [{"role": "customer", "text": "hi", "mood": 1}]}, "x", "turns.0.mood"),
    (row("x", chanel="chat"), "x", "chanel"),
    (row("x", channel="fax"), "x", "channel"),
    (row("x", meta={"waiting_minutes": [1]}), "x", "meta.waiting_minutes"),
    (row("first"), "first", "line 1"),
    ([], None, "array"),
    (None, None, "null"),
    (b'"hi"', None, "string"),
    (b"not json", None, "JSON"),
    (b'{"id": "x", "text": "hi"', None, "JSON"),
    (b'{"id": "x", "text": "hi"} {}', None, "JSON"),
    (b'{"id": "x", "text": NaN}', "x", "text"),
    (b'{"id": "x", "text": "\xff\xfe"}', None, "UTF-8"),
    (b'{"id": "x", "text": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", None, "nested"),
    (b"\0" * 20, None, "not "),
]


@pytest.mark.parametrize(("bad", "row_id", "named"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_row_says_what_is_wrong_and_spoils_no_other(
    simmer: Simmer, tmp_path: Path, bad: object, row_id: str | None, named: str
) -> None:
    result = simmer("score", written(tmp_path / "in", row("first"), bad, row("last")), "-o", tmp_path / "out")
    found = read((tmp_path / "out").read_bytes())
    assert result.exit_code == 1
    assert ids(found) == ["first", row_id, "last"]
    assert list(found[1]) == ["id", "line", "error"]
    assert found[1]["line"] == 2
    assert named in found[1]["error"]
    assert len(found[1]["error"]) < 400
    assert [good["abstained"] for good in found[::2]] == [None, None]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"id": "x", "text": "hi", "\\ud800": 1}',
    ],
)
def test_lone_surrogates_in_field_names_are_refused_and_never_written(
    simmer: Simmer, tmp_path: Path, bad: bytes
) -> None:
    result = simmer("score", written(tmp_path / "in", row("first"), bad, row("last")), "-o", tmp_path / "out")
    found = read((tmp_path / "out").read_bytes())
    assert result.exit_code == 1
    assert [found[0]["id"], found[2]["id"]] == ["first", "last"]
    assert found[1]["error"]


@pytest.mark.parametrize("number", [b"1e400", b"NaN", b"-Infinity", b"9" * 4000, b"-" + b"9" * 4000])
def test_numbers_without_bounds_are_no_trouble(simmer: Simmer, tmp_path: Path, number: bytes) -> None:
    wild = b'{"id": "x", "text": "hi", "meta": {"waiting_minutes": ' + number + b"}}"
    result = simmer("score", written(tmp_path / "in", wild), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.exception
    assert read((tmp_path / "out").read_bytes())[0]["abstained"] is None


def test_windows_files_are_read(simmer: Simmer, tmp_path: Path) -> None:
    plain = lines(row("a"), row("b"))
    (tmp_path / "in").write_bytes(b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n") + b"\r\n")
    result = simmer("score", tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert ids(read((tmp_path / "out").read_bytes())) == ["a", "b"]


@pytest.mark.parametrize("nothing", [b"", b"\n\n", b" \r\n"])
def test_an_empty_file_gives_an_empty_file(simmer: Simmer, tmp_path: Path, nothing: bytes) -> None:
    (tmp_path / "in").write_bytes(nothing)
    result = simmer("score", tmp_path / "in", "-o", tmp_path / "out")
    assert (result.exit_code, (tmp_path / "out").read_bytes()) == (0, b"")


def test_the_last_line_needs_no_line_break(simmer: Simmer, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(lines(row("a"), row("b")).rstrip(b"\n"))
    simmer("score", tmp_path / "in", "-o", tmp_path / "out")
    assert ids(read((tmp_path / "out").read_bytes())) == ["a", "b"]


def test_every_turn(simmer: Simmer, tmp_path: Path) -> None:
    source = written(
        tmp_path / "in",
        talk("a", ("customer", "Hi"), ("bot", "Hello"), ("customer", "Where is it?"), ("agent", "One moment")),
        row("b", 5),
        talk("c", ("agent", "Are you there?")),
        row("d"),
    )
    result = simmer("score", source, "-o", tmp_path / "out", "--every-turn")
    found = read((tmp_path / "out").read_bytes())
    assert result.exit_code == 1
    assert [(r["id"], r.get("turn")) for r in found] == [("a", 0), ("a", 2), ("b", None), ("c", 0), ("d", 0)]
    assert "5 answers" not in result.stderr
    assert "4 answers" in result.stderr


def test_more_rows_than_are_held_at_once(simmer: Simmer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(cli, "JOBS_AT_ONCE", 2)
    rows = [talk(f"m{n}", *[("customer", "hi")] * (n % 4 + 1)) for n in range(11)]
    simmer("score", written(tmp_path / "in", *rows), "-o", tmp_path / "out", "--every-turn")
    found = [(r["id"], r["turn"]) for r in read((tmp_path / "out").read_bytes())]
    assert found == [(f"m{n}", turn) for n in range(11) for turn in range(n % 4 + 1)]


def test_an_id_may_not_come_back_in_a_later_batch(
    simmer: Simmer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "ROWS_AT_ONCE", 2)
    simmer("score", written(tmp_path / "in", *map(row, "abcda")), "-o", tmp_path / "out")
    last = read((tmp_path / "out").read_bytes())[-1]
    assert last == {"id": "a", "line": 5, "error": "id: already used on line 1"}


def test_all_heads_adds_the_auxiliary_ones(simmer: Simmer, bundle: Bundle, tmp_path: Path) -> None:
    source = written(tmp_path / "in", row("a"), row("b", "😡"))
    simmer("score", source, "-o", tmp_path / "plain")
    simmer("score", source, "-o", tmp_path / "all", "--all-heads")
    plain, everything = (read((tmp_path / name).read_bytes()) for name in ("plain", "all"))
    auxiliary = [found.pop("auxiliary") for found in everything]
    wanted = {name: len(head.values) for name, head in bundle.card.labels.heads.items() if head.auxiliary}
    assert {name: len(values) for name, values in auxiliary[0].items()} == wanted
    assert auxiliary[1] == {}
    assert everything == plain


@pytest.mark.parametrize("missing", ["nowhere.jsonl", "no/such/folder.jsonl"])
def test_a_missing_input_is_named(simmer: Simmer, tmp_path: Path, missing: str) -> None:
    assert_stopped(simmer("score", tmp_path / missing, "-o", tmp_path / "out"), missing, "No such file")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_input_and_no_output(simmer: Simmer, tmp_path: Path) -> None:
    source = written(tmp_path / "in", row("a"))
    assert_stopped(simmer("score", tmp_path, "-o", tmp_path / "out"), str(tmp_path), "directory")
    assert_stopped(simmer("score", source, "-o", tmp_path), str(tmp_path), "directory")
    assert_stopped(simmer("score", source, "-o", tmp_path / "no" / "out"), "out", "No such file")


@pytest.mark.parametrize("name", ["nothing", "[bold]nothing[/bold]"])
def test_a_missing_bundle_is_named(tmp_path: Path, name: str) -> None:
    source = written(tmp_path / "in", row("a"))
    assert_stopped(run("score", source, "-o", tmp_path / "out", "--model", tmp_path / name), str(tmp_path / name))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["bundle.json", "model.int8.bin", "model.int8.xml", "model.onnx", "tokenizer.json"])
def test_a_bundle_that_was_tampered_with_is_refused(bundle_copy: Path, tmp_path: Path, name: str) -> None:
    source = written(tmp_path / "in", row("a"))
    with (bundle_copy / name).open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        byte = file.read(1)
        file.seek(-20, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    assert_stopped(run("score", source, "-o", tmp_path / "out", "--model", bundle_copy), name, "changed")
    (bundle_copy / name).unlink()
    assert_stopped(run("score", source, "-o", tmp_path / "out", "--model", bundle_copy), name, "missing")
    assert not (tmp_path / "out").exists()


def test_a_broken_configuration_is_named(simmer: Simmer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ConfigError("configs/serve.yaml: threads: too few")

    monkeypatch.setattr(cli, "load_serve_config", broken)
    assert_stopped(simmer("score", written(tmp_path / "in", row("a"))), "serve.yaml", "threads")
    assert_stopped(simmer("serve"), "serve.yaml", "threads")


def test_an_input_may_be_its_own_output(simmer: Simmer, tmp_path: Path) -> None:
    path = written(tmp_path / "rows", *(row(f"m{n}") for n in range(30)))
    assert simmer("score", path, "-o", path).exit_code == 0
    assert ids(read(path.read_bytes())) == [f"m{n}" for n in range(30)]
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_is_replaced_where_it_stands(simmer: Simmer, tmp_path: Path) -> None:
    """Its permissions stay, and so does a link to it."""
    source, private, link = written(tmp_path / "in", row("a")), tmp_path / "private", tmp_path / "link"
    private.write_text("a much longer text than before\n" * 1000)
    private.chmod(0o600)
    link.symlink_to(private)
    assert simmer("score", source, "-o", link).exit_code == 0
    assert link.is_symlink()
    assert ids(read(private.read_bytes())) == ["a"]
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_a_device_stays_a_device(simmer: Simmer, tmp_path: Path) -> None:
    assert simmer("score", written(tmp_path / "in", row("a")), "-o", os.devnull).exit_code == 0
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_in_one_line(simmer: Simmer, tmp_path: Path) -> None:
    assert_stopped(simmer("score", written(tmp_path / "in", row("a")), "-o", "/dev/full"), "/dev/full", "space")


def test_a_failure_half_way_leaves_the_old_output(simmer: Simmer, tmp_path: Path) -> None:
    old = written(tmp_path / "out", b"old")

    class Half:
        def score(self, jobs: object) -> None:
            raise RuntimeError("the lights went out")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "load_scorer", lambda *_: Half())
        result = simmer("score", written(tmp_path / "in", row("a")), "-o", old)
    assert isinstance(result.exception, RuntimeError)
    assert old.read_bytes() == b"old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def ticket(row_id: int, text: str = "Where is my parcel?", **more: object) -> dict[str, object]:
    comment = {"id": 5, "author_id": 1, "public": True, "body": text, **more}
    return {"id": row_id, "requester_id": 1, "comments": [comment]}


def test_what_is_converted_can_be_scored(simmer: Simmer, tmp_path: Path) -> None:
    source, between = (
        written(tmp_path / "tickets.json", [ticket(1), ticket(2), ticket(3, public=False)]),
        tmp_path / "b",
    )
    result = simmer("convert", "zendesk", source, "-o", between)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "2 conversations, 1 without a public message" in result.stderr
    assert simmer("score", between, "-o", tmp_path / "out").exit_code == 0
    assert [(r["id"], r["abstained"]) for r in read((tmp_path / "out").read_bytes())] == [("1", None), ("2", None)]


def test_a_row_that_cannot_be_converted_is_named(tmp_path: Path) -> None:
    source = written(tmp_path / "tickets.jsonl", ticket(1), ticket(2, public=None), b"nonsense", ticket(3))
    result = run("convert", "zendesk", source, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert ids(read((tmp_path / "out").read_bytes())) == ["1", "3"]
    assert "bad row: tickets.jsonl line 2: comments.0.public: missing" in result.stderr
    assert "bad row: tickets.jsonl line 3: not JSON" in result.stderr
    assert "2 conversations, 2 bad rows" in result.stderr


def test_many_bad_rows_are_counted_not_listed(tmp_path: Path) -> None:
    result = run(
        "convert", "intercom", written(tmp_path / "in", *([5] * (cli.ERRORS_SHOWN + 7))), "-o", tmp_path / "out"
    )
    assert result.exit_code == 1
    assert result.stderr.count("not an object") == cli.ERRORS_SHOWN
    assert "and 7 more" in result.stderr


def test_a_table_is_converted_by_its_columns() -> None:
    table = "ticket;body;author_role;mood\nT1;Hello [b]?;customer;negative\nT1;Hi;agent;\n".encode("utf-8-sig")
    columns = ["--map", "text=body", "--map", "id=ticket", "--map", "role=author_role", "--map", "sentiment=mood"]
    result = run("convert", "csv", "-", *columns, stdin=table)
    (found,) = read(result.stdout_bytes)
    assert result.exit_code == 0
    assert found["turns"][0] == {"role": "customer", "text": "Hello [b]?", "labels": {"sentiment": "negative"}}
    assert found["turns"][1] == {"role": "agent", "text": "Hi"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["zendesk", "nowhere.json"], ["nowhere.json", "No such file"]),
        (["zendesk", "t.csv"], ["t.csv", "not JSON"]),
        (["zendesk", "t.csv", "--map", "text=body"], ["only csv"]),
        (["csv", "t.csv"], ["text: no column is named"]),
        (["csv", "t.csv", "--map", "text=[b]"], ["t.csv: no column [b] (it has: body, mood)"]),
        (["csv", "t.csv", "--map", "text"], ["--map text: write FIELD=COLUMN"]),
        (["csv", "t.csv", "--map", "text=body", "--map", "text=mood"], ["text is column body already"]),
        (["csv", "t.csv", "--map", "text=body", "--map", "temper=mood"], ["temper: no such field or head"]),
    ],
)
def test_what_cannot_be_converted_leaves_the_old_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("body,mood\nHi,negative\n", encoding="utf-8")
    old = written(tmp_path / "out", b"old")
    assert_stopped(run("convert", *arguments, "-o", old), *named)
    assert old.read_bytes() == b"old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "t.csv"]


def test_an_unknown_help_desk_is_refused() -> None:
    result = run("convert", "carrier-pigeon", "-")
    assert result.exit_code == 2
    assert "zendesk" in result.stderr


def test_ctrl_c_leaves_the_old_output_and_nothing_else(tmp_path: Path, bundle_path: Path) -> None:
    old = written(tmp_path / "out", b"old")
    process = started("score", "-", "-o", old, "--model", bundle_path)
    assert process.stdin is not None
    process.stdin.write(lines(*(row(f"m{n}", "hi") for n in range(cli.ROWS_AT_ONCE + 100))))
    process.stdin.flush()
    until = time.monotonic() + 60
    while not any(path.stat().st_size for path in tmp_path.glob(".out*")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)  # its input is still open: nothing else can end it
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode not in (0, 1), stderr
    assert b"Traceback" not in stderr
    assert old.read_bytes() == b"old\n"
    assert list(tmp_path.iterdir()) == [old]


def test_a_reader_who_has_seen_enough_is_no_error_of_ours(tmp_path: Path, bundle_path: Path) -> None:
    source = written(tmp_path / "in", *(row(f"m{n}", "hi") for n in range(200)))
    process = started("score", source, "--model", bundle_path)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["id"] == "m0"
    process.stdout.close()
    assert process.stderr is not None
    stderr = process.stderr.read()
    process.wait(timeout=60)
    assert b"Traceback" not in stderr
    assert b"Exception" not in stderr
    for pipe in (process.stdin, process.stderr):
        assert pipe is not None
        pipe.close()


def test_a_served_scorer_is_ready_and_stops_when_told(toy: Path, tmp_path: Path) -> None:
    """As a process of its own: it says where it listens, loses nothing, and logs no word of what it was told."""
    given = ["--port", "0", "--model", str(toy), "--store", f"sqlite:///{tmp_path}/simmer.db"]
    command = [sys.executable, "-m", "serving.cli", "serve", *given]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "http://" in line)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        assert found, said
        with httpx.Client(base_url=found[0], trust_env=False, timeout=30) as client:
            assert client.get("/readyz").json()["status"] == "ready"
            body = {"id": "m1", "text": "I am furious about my kneecap"}
            assert client.post("/v1/conversations/c1/messages", json=body).status_code == 201
            hang_up_half_way(int(found[1]))
            assert client.get("/healthz").status_code == 200
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=30)[1]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, stderr
    assert not re.search('Traceback|kneecap|"level":"error"', said + stderr)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def hang_up_half_way(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b'POST /v1/score HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 500\r\n\r\n{"id": "a"')
