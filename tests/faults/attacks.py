"""The attacks: each a function of the ground, a source of chance and an empty folder, that returns a verdict.

An attack survives if the command ends with the result of an undisturbed one, bit for bit, or refuses in one line.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.faults import verdict
from tests.faults.ground import EVERY, PROMPTS, STEPS, Ground
from tests.faults.verdict import CANARY, REFUSED, SAME, Verdict
from tests.processes import rendezvous

Attack = Callable[[Ground, random.Random, Path], Verdict]
ATTACKS: dict[str, Attack] = {}
"""All attacks by name."""
GOES_ON: set[str] = set()
"""Those after which the command, or the next one, has to succeed at least now and then."""


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.replace("_", " ")] = function
    return function


def goes_on(function: Attack) -> Attack:
    """An attack after which work goes on, always or where the damage allows it."""
    GOES_ON.add(function.__name__.replace("_", " "))
    return attack(function)


# -------------------------------------------------------------------------------------------------------- damaged files


def _any_file(chance: random.Random, folder: Path) -> Path:
    return chance.choice(sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size))


def _flip(chance: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = chance.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def _truncate(chance: random.Random, path: Path) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def _overwrite(chance: random.Random, path: Path) -> None:
    path.write_bytes(chance.choice([b"", b"{}", b"[]", b"null", b"\0" * 64, chance.randbytes(200), b"[" * 100_000]))


def _delete(chance: random.Random, path: Path) -> None:
    path.unlink()


NOBODY = 65534
DAMAGE = (_truncate, _overwrite, _delete)


def _resumed(ground: Ground, output: Path) -> Verdict:
    return verdict.of(ground.forks, ground.command(output), lambda: ground.differs(output))


def _never_refused(found: Verdict) -> Verdict:
    """The verdict where nothing is damaged that counts: refusing is not enough."""
    return Verdict(verdict.NEEDLESS, found.detail) if found.outcome == verdict.REFUSED else found


@attack
def a_flipped_bit_in_a_checkpoint(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    output = ground.stopped(folder / "run")
    _flip(chance, _any_file(chance, output / f"checkpoint-{EVERY}"))
    return _resumed(ground, output)


@attack
def a_damaged_file_in_a_checkpoint(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    output = ground.stopped(folder / "run")
    chance.choice(DAMAGE)(chance, _any_file(chance, output / f"checkpoint-{EVERY}"))
    return _resumed(ground, output)


@goes_on
def a_damaged_newest_checkpoint(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """An older one is there: the run goes on from it."""
    output = ground.stopped(folder / "run")
    newest = shutil.copytree(ground.run / f"checkpoint-{2 * EVERY}", output / f"checkpoint-{2 * EVERY}")
    chance.choice((_flip, *DAMAGE))(chance, _any_file(chance, newest))
    return _never_refused(_resumed(ground, output))


@attack
def a_flipped_bit_in_a_cache(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    cache = shutil.copytree(ground.cache, folder / "cache")
    _flip(chance, _any_file(chance, cache))
    output = folder / "run"
    return verdict.of(ground.forks, ground.command(output, cache_dir=cache), lambda: ground.differs(output))


@attack
def a_damaged_file_in_a_cache(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    cache = shutil.copytree(ground.cache, folder / "cache")
    chance.choice(DAMAGE)(chance, _any_file(chance, cache))
    output = folder / "run"
    return verdict.of(ground.forks, ground.command(output, cache_dir=cache), lambda: ground.differs(output))


@goes_on
def a_damaged_file_of_a_stopped_run(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """Logs, partition, settings beside the checkpoint."""
    output = ground.stopped(folder / "run")
    files = sorted(path for path in output.iterdir() if path.is_file() and path.stat().st_size)
    chance.choice((_flip, *DAMAGE))(chance, chance.choice(files))
    return verdict.of(ground.forks, ground.command(output), lambda: _other_weights(ground, output))


def _other_weights(ground: Ground, output: Path) -> str:
    """The weights must be the same; a log whose past was damaged cannot be."""
    paths = [path.relative_to(ground.run) for path in ground.run.glob("unet/*")]
    return ", ".join(str(path) for path in paths if (output / path).read_bytes() != (ground.run / path).read_bytes())


# ---------------------------------------------------------------------------------------------------- kills and signals


def _killed(ground: Ground, chance: random.Random, arguments: list[str], longest: float) -> Verdict:
    """How a command ended that was sent a signal after a while, by the clock: what it hits depends on the machine."""
    pid = ground.forks.start(*arguments)
    time.sleep(chance.uniform(0.05, longest))
    os.kill(pid, chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
    begin = time.monotonic()
    ended = ground.forks.wait(pid, verdict.LIMIT)
    return verdict.judged(ended, time.monotonic() - begin, lambda: "", signalled=True)


def _after(kills: list[Verdict], found: Callable[[], Verdict]) -> Verdict:
    """What the command comes to once it is run again; a kill that came too late shows nothing."""
    if lost := [one for one in kills if not one.survived]:
        return lost[0]
    last = _never_refused(found())
    return Verdict(SAME, verdict.UNTOUCHED) if last.outcome == SAME and kills[0].outcome == SAME else last


@goes_on
def a_kill_during_training(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """One or two kills, after times that are drawn."""
    output = folder / "run"
    kills = [_killed(ground, chance, ground.command(output), longest=1.5) for _ in range(chance.randint(1, 2))]
    return _after(kills, lambda: _resumed(ground, output))


@goes_on
def a_kill_during_delivery(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """A kill after a drawn time, of a run that only has to write its pipeline."""
    output = ground.stopped(folder / "run", STEPS)
    kill = _killed(ground, chance, ground.command(output), longest=0.8)
    return _after([kill], lambda: _resumed(ground, output))


@goes_on
def a_kill_while_the_cache_is_filled(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """A kill after a drawn time, of a run whose cache is empty."""
    output = folder / "run"
    arguments = ground.command(output, cache_dir=folder / "cache")
    kill = _killed(ground, chance, arguments, longest=0.8)
    return _after([kill], lambda: verdict.of(ground.forks, arguments, lambda: ground.differs(output)))


# ---------------------------------------------------------------------------------------------------------------- disks


@goes_on
def a_full_disk(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """The n-th file or folder that is flushed does not fit any more; with space again, the same command goes on."""
    output, cache, left = folder / "run", folder / "cache", chance.randint(0, FLUSHES)
    marker = folder / "full"
    arguments = ground.command(output, cache_dir=cache)

    def full() -> None:
        from aria import files
        from aria.cli import main

        sync, count = files.sync, 0

        def fail(path: Path) -> None:
            nonlocal count
            count += 1
            if count > left:
                marker.touch()
                raise OSError(28, "No space left on device", str(path))
            sync(path)

        files.sync = fail  # type: ignore[assignment]
        main(list(map(str, arguments)))

    first = verdict.called(ground.forks, full, lambda: ground.differs(output))
    if not first.survived:
        return first
    if first.outcome == REFUSED and not (marker.exists() and "the disk is full" in first.detail):
        return Verdict(verdict.NEEDLESS, first.detail)
    again = _never_refused(verdict.of(ground.forks, arguments, lambda: ground.differs(output)))
    return again if marker.exists() or not again.survived else Verdict(SAME, verdict.UNTOUCHED)


FLUSHES = 100
"""Files and folders that such a run flushes, at most."""


@goes_on
def a_folder_nothing_can_be_written_to(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """Output, cache or both belong to someone else. A full cache can still be read."""
    output = folder / "run"
    cache = shutil.copytree(ground.cache, folder / "cache")
    output.mkdir()
    shut = chance.choice([(output,), (cache,), (output, cache)])
    if os.geteuid() == 0:  # then permissions do not count: the command is run as a user who is nobody
        for path in (output, cache, *cache.rglob("*")):
            shutil.chown(path, NOBODY, NOBODY)
    for path in [path for closed in shut for path in (closed, *closed.rglob("*"))]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    arguments = ground.command(output, cache_dir=cache)

    def as_nobody() -> None:
        import sklearn.cluster  # noqa: F401  # imported now: the interpreter's folder may be closed to others
        import threadpoolctl  # noqa: F401

        from aria.cli import main

        "".encode("utf-8-sig")
        if os.geteuid() == 0:
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
        main(list(map(str, arguments)))

    found = verdict.called(ground.forks, as_nobody, lambda: ground.differs(output))
    return found if output in shut else _never_refused(found)


# ------------------------------------------------------------------------------------------------ links and two writers


@attack
def a_link_in_the_output_folder(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """A file or folder that the run writes, into its own folder or its cache, leads elsewhere."""
    output = ground.stopped(folder / "run") if chance.random() < 0.5 else folder / "run"
    output.mkdir(exist_ok=True)
    cache = shutil.copytree(ground.cache, folder / "cache")
    canary = folder / "canary"
    canary.write_text(CANARY)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    path = chance.choice([
        *(output / name for name in (
            "losses.jsonl", "discrepancies.jsonl", "config.json", "partition.safetensors", "README.md", "unet",
            "model_index.json", "tokenizer", "checkpoint-4", "partition.json", ".run-lock", "hashes.json",
        )),
        *(cache / name for name in ("cache.json", ".lock", "conditions", "latents/samples", "conditions/index.json")),
    ])  # fmt: skip
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere if "." not in path.name else canary)
    found = verdict.of(ground.forks, ground.command(output, cache_dir=cache), lambda: NEVER, canary)
    if any(elsewhere.iterdir()):
        return Verdict(verdict.TOUCHED, f"{path.name} led elsewhere")
    return found


@goes_on
def two_writers(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """Two runs that share an output folder, or only a cache that is still empty, one begun a while after the other."""
    shared = chance.random() < 0.5
    outputs = [folder / "run", folder / ("run" if shared else "other")]
    pids = []
    for output in outputs:
        pids.append(ground.forks.start(*ground.command(output, cache_dir=folder / "cache")))
        time.sleep(chance.uniform(0.0, 0.5))
    for pid, output in zip(pids, outputs, strict=True):
        begin = time.monotonic()
        ended = ground.forks.wait(pid, verdict.LIMIT)
        found = verdict.judged(ended, time.monotonic() - begin, lambda output=output: ground.differs(output))
        if not found.survived or (not shared and found.outcome != SAME):
            return Verdict(found.outcome if not found.survived else verdict.NEEDLESS, found.detail)
    found = "; ".join(filter(None, map(ground.differs, outputs)))
    return Verdict(verdict.CHANGED, found) if found else Verdict(SAME)


@goes_on
def a_lost_rank(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """One of two ranks is killed while they train: the other ends by itself, and the run is resumed by two."""
    output = folder / "run"
    arguments = ground.command(output, train_batch_size=2)
    lost, rows, later = chance.randrange(2), chance.randint(1, 3), chance.uniform(0.0, 0.1)
    with rendezvous(2) as places:
        pids = [ground.forks.start(*arguments, env=env) for env in places]
        end, log = time.monotonic() + verdict.LIMIT, output / "losses.jsonl"
        while time.monotonic() < end and not (log.is_file() and log.read_bytes().count(b"\n") >= rows):
            time.sleep(0.01)
        time.sleep(later)
        os.kill(pids[lost], signal.SIGKILL)
        begin = time.monotonic()
        other = ground.forks.wait(pids[1 - lost], NOTICED)  # and not ended by anyone, as torchrun would
        if time.monotonic() - begin >= NOTICED:
            ground.forks.wait(pids[lost])
            return Verdict(verdict.HANG, f"rank {1 - lost} waits for rank {lost}, which is dead")
        killed = ground.forks.wait(pids[lost])
    with rendezvous(2) as places:
        pids = [ground.forks.start(*arguments, env=env) for env in places]
        begin = time.monotonic()
        ended = [ground.forks.wait(pid, verdict.LIMIT) for pid in pids]
    seconds = time.monotonic() - begin
    found = [_never_refused(verdict.judged(one, seconds, lambda: _incomplete(output))) for one in ended]
    worst = next((one for one in found if not one.survived), found[0])
    too_late = worst.outcome == SAME and other.code == killed.code == 0
    return Verdict(SAME, verdict.UNTOUCHED) if too_late else worst


NOTICED = 20.0
"""Seconds after which a rank must have noticed that another is gone."""


def _incomplete(output: Path) -> str:
    rows = [json.loads(line)["step"] for line in (output / "losses.jsonl").read_text().splitlines()]
    whole = rows == list(range(1, STEPS + 1)) and (output / "model_index.json").is_file()
    return "" if whole else f"steps {rows}"


# ------------------------------------------------------------------------------------------------ what others have made

NEVER = "it should have been refused"
CODES = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\u202e", "\u2066", "\x7f", "\r\n", "\u2028"]
NO_TEXT = ["\x00", "\ud83d"]
"""What no text has: it is refused."""


@goes_on
def hostile_prompts(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """Control characters, markup, very long lines and broken encodings in the file of prompts."""
    lines = [f"{text} {chance.choice([*CODES, '<script>', '|`', '{{x}}'])} {chance.randrange(100)}" for text in PROMPTS]
    lines[0] += chance.choice(["", "x" * 100_000, "é"])
    if refused := chance.random() < 0.15:
        lines[-1] += chance.choice(NO_TEXT)
    suffix = chance.choice([".txt", ".jsonl"])
    text = "\n".join(json.dumps({"prompt": line}) for line in lines) if suffix == ".jsonl" else "\n".join(lines)
    path = folder / f"prompts{suffix}"
    encoding = "utf-16" if chance.random() < 0.05 else "utf-8"
    path.write_bytes(text.encode(encoding, "surrogatepass"))
    output, cache = folder / "run", folder / "cache"
    arguments = ground.command(output, prompts=path, cache_dir=cache)
    arguments.remove("--quiet")  # with its summary and bars
    marked = partial(_marked, output / "README.md")
    found = verdict.of(ground.forks, arguments, marked, summary=True)
    if found.outcome != SAME:
        return found if refused or encoding != "utf-8" else _never_refused(found)
    if chance.random() < 0.5:
        page = folder / "report.html"
        return _never_refused(verdict.of(ground.forks, ["report", output, "--output", page], partial(_marked, page)))
    words = ["partition", "--prompts", path, "--partitioner", "kmeans(2)", "--cache_dir", cache]
    return _never_refused(verdict.of(ground.forks, words, lambda: ""))


def _marked(page: Path) -> str:
    """What of others is code in a page or Markdown file, or acts on a terminal."""
    text = page.read_text(encoding="utf-8", errors="strict")
    return "<script>" if "<script" in text.lower() else verdict.acting(text)


@goes_on
def a_hostile_configuration(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """Someone else's file of settings: it cannot run code, whatever it names; one with plain settings is read."""
    canary = folder / "canary"
    canary.write_text(CANARY)
    own = folder / "own.py"
    own.write_text(f"open({str(canary)!r}, 'w').write('touched')")
    calls = [
        f"os:system('echo touched > {canary}')", f"builtins:exec(\"open('{canary}', 'w')\")", f"{own}:Mine()",
        f"subprocess:Popen(['touch', '{canary}'])", f"ema(rate=os:system('rm {canary}'))", "(" * 3000, "a" * 1_000_000,
        "__import__('os').system('id')", f"aria.files:write_text('{canary}', '')",
    ]  # fmt: skip
    if chance.random() < 0.2:
        return _plain_configuration(ground, chance, folder)
    disguised = f"{own}:Mine() # .safetensors"
    spec = disguised if chance.random() < 0.25 else chance.choice(calls)
    name = chance.choice(["allocator", "tracker", "partitioner", "replacement", "objective", "weighting"])
    kind = chance.choice(["json", "yaml", "toml"])
    path = folder / f"config.{kind}"
    plain, tag = json.dumps({name: spec}), f"!!python/object/apply:os.system ['touch {canary}']"
    doubled = "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(30))
    text = {
        "json": plain,
        "yaml": plain if spec == disguised else chance.choice([plain, f"{name}: {tag}", doubled]),
        "toml": f"{name} = {json.dumps(spec)}"
        if spec == disguised or chance.random() < 0.5
        else ".".join("a" * 20_000) + " = 1",
    }[kind]
    path.write_text(text)
    words = _without(ground.command(folder / "run"), name)  # on the command line it would overrule the file
    return verdict.of(ground.forks, [*words, "--config", path], lambda: NEVER, canary)


def _without(words: Sequence[object], name: str) -> list[object]:
    """A command without the option ``--name`` and its value."""
    if f"--{name}" not in words:
        return list(words)
    place = list(words).index(f"--{name}")
    return [*words[:place], *words[place + 2 :]]


def _plain_configuration(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """Some of the run's own settings are in the file instead of on the command line: the result is the same."""
    output, kind = folder / "run", chance.choice(["json", "yaml", "toml"])
    words = ground.command(output)
    moved = {"partitioner": "kmeans(3)", "on_policy": 0.25, "warmup": 1, "max_train_steps": STEPS}
    for name in moved:
        words = _without(words, name)
    path = folder / f"config.{kind}"
    lines = [f"{name} {'=' if kind == 'toml' else ':'} {json.dumps(value)}" for name, value in moved.items()]
    path.write_text(json.dumps(moved) if kind == "json" else "\n".join(lines))
    found = verdict.of(ground.forks, [*words, "--config", path], lambda: ground.differs(output))
    return _never_refused(found)


@goes_on
def a_damaged_run_in_a_report(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """Logs, settings and partitions of another's run: the page is written, or refused."""
    run = ground.stopped(folder / "run")
    path = chance.choice(sorted(path for path in run.iterdir() if path.is_file() and path.stat().st_size))
    if path.suffix in {".json", ".jsonl"} and chance.random() < 0.7:
        _change_a_value(chance, path)
    else:
        chance.choice((_flip, *DAMAGE))(chance, path)
    page = folder / "report.html"
    return verdict.of(ground.forks, ["report", run, "--output", page], partial(_marked, page))


VALUES = [None, -1, 10**18, 1e308, float("nan"), "x", "\x1b[2J", "<script>", [], {}, True, [[]], "9" * 400]


def _change_a_value(chance: random.Random, path: Path) -> None:
    """One value somewhere in a file of JSON, or of lines of JSON, becomes another."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else None
    whole = rows if rows is not None else json.loads(path.read_text())
    holder, key = chance.choice(list(_places(whole)))
    if chance.random() < 0.2:
        del holder[key]
    else:
        holder[key] = chance.choice(VALUES)
    text = "".join(json.dumps(row) + "\n" for row in whole) if rows is not None else json.dumps(whole)
    path.write_text(text)


def _places(value: object) -> list[tuple[dict | list, object]]:
    found: list[tuple[dict | list, object]] = []
    for key, held in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += [(value, key), *_places(held)]
    return found


@attack
def a_damaged_log_to_be_checked(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """`aria-sim check-log` on another's run."""
    run = ground.stopped(folder / "run")
    path = run / chance.choice(["discrepancies.jsonl", "config.json"])
    chance.choice((_change_a_value, _change_a_value, _flip, *DAMAGE))(chance, path)

    def check() -> None:
        from theory.cli import main

        main(["check-log", str(run / "discrepancies.jsonl")])

    return verdict.called(ground.forks, check, lambda: "", judges=True)


@attack
def a_damaged_result(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """A cell of a comparison: the table is what it was, or the cell is refused by name."""
    bench = shutil.copytree(ground.folder / "bench", folder / "bench")
    cell = chance.choice(sorted(path for path in (bench / "cells").rglob("*.json") if path.is_file()))
    damages = (_change_a_value, _flip, *DAMAGE)
    chance.choice(damages)(chance, cell)
    return verdict.of(ground.forks, ground.comparison(bench), lambda: ground.other_table(bench))


@attack
def a_damaged_partition(ground: Ground, chance: random.Random, folder: Path) -> Verdict:
    """A partition file given to a run: read as it is, or refused before anything large is allocated."""
    path = folder / "partition.safetensors"
    shutil.copy(ground.run / path.name, path)
    chance.choice((_flip, _flip, *DAMAGE))(chance, path)
    output = folder / "run"
    arguments = ground.command(output, partitioner=path)
    was = (ground.run / path.name).read_bytes()
    return verdict.of(
        ground.forks, arguments, lambda: "" if path.read_bytes() == was else "another partition"
    )
