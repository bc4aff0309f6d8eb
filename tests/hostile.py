"""A valid submission, ways to spoil it, and a second opinion on what is valid, in plain Python, for fuzzing.

``python tests/hostile.py 10000`` spoils it so many times, and says what came of it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

MANIFEST = json.loads((Path(__file__).parents[1] / "datasets" / "manifest.json").read_text())
TRAINED, LOGGED = "OfflineMeta/PointRobot/smac-v1", "OfflineMeta/PointRobot/smac-heldout-v1"
PROTOCOLS = {"online-3": 3, "offline-context": 1}
SEEDS = (0, 1, 2)
METHOD = """name: mine
title: "Ours: it learns."
authors: [A. Author, Ω. Μέλος]
paper: none
code: https://example.org/mine
commit: "0123abc"
information: Nothing.
tuning: {trials: 3, rollouts: null, note: On training tasks.}
hardware: One core.
note: Look out.
"""


def result(protocol: str = "online-3", seed: int = 0, method: str = "mine") -> dict[str, Any]:
    """A valid result on PointRobot/smac."""
    rng = random.Random(f"{protocol}{seed}")
    returns = [[round(rng.uniform(-20, -5), 3) for _ in range(PROTOCOLS[protocol])] for _ in range(20)]
    data = {"id": TRAINED, "sha256": MANIFEST[TRAINED]["sha256"]}
    context = {"id": LOGGED, "sha256": MANIFEST[LOGGED]["sha256"]} if protocol == "offline-context" else {}
    return {
        "schema_version": 2,
        "benchmark": f"PointRobot/smac/{protocol}",
        "method": method,
        "agent": "mine:Agent",
        "sees_task": False,
        "seeds": [seed],
        "repeats": 3,
        "returns": [returns],
        "metrics": {"kl_shift": [0.5 + seed]},
        "provenance": [
            {
                "dataset": data,
                "context": context,
                "config": {"lr": 0.001, "hidden": [128, 128], "actor": "awac", "normalise": True, "clip": None},
                "versions": {"offlinemeta": "0.1.0", "mujoco": "3.3.0", "gymnasium": "1.4.0", "numpy": "2.4.6"},
                "commit": "694f8de6bbfa+",
                "machine": "x86_64, Linux, 2 cores",
                "wall_time": 494.5,
                "gradient_steps": 20000,
                "env_steps": 0,
                "checkpoint": f"{seed + 1:064x}",
                "evaluation_seed": seed,
                "started": "2026-11-23T03:24:49+00:00",
            }
        ],
    }


def write(folder: Path) -> Path:
    """Write the valid submission; return its folder."""
    home = folder / "mine"
    (home / "PointRobot-smac").mkdir(parents=True)
    (home / "method.yaml").write_text(METHOD, encoding="utf-8")
    for protocol in PROTOCOLS:
        for seed in SEEDS:
            put(home, result(protocol, seed))
    return home


def put(home: Path, content: dict[str, Any]) -> Path:
    """Write a result to its place."""
    protocol, (seed,) = content["benchmark"].rpartition("/")[2], content["seeds"]
    file = home / "PointRobot-smac" / f"{protocol}-s{seed}.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


# --- ways to spoil it

DEEP: Any = []
for _ in range(600):
    DEEP = [DEEP]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3, 0.0, -0.0, 0.5, 1e9, 1e300, -1e300, 10**30, 10**400, math.nan, math.inf,
    -math.inf, 2**63, "", " ", "0", "1.5", "NaN", "true", "null", "mine", "other", "smac",
    "<script>alert(1)</script>", "<img src=x onerror=y>", "javascript:alert(1)", "https://example.org/x",
    "https://example.org/<b>", "../../etc/passwd", "/etc/passwd", "..", "C:\\x", "a\nb", "a\rb", "a\x00b",
    "\x1b[31mred", "\u202egnp.exe", "\u200bhidden", "sma\u0441", "ﬁ", "e\u0301", "\ufeffbom", "\ud800",
    "\U000e0041", "😀", "x" * 700, "x" * 100_000, "${{ secrets.X }}", "::set-output name=a::b", "`id`", "$(id)",
    "|a|b|", "=1+1", "OfflineMeta/PointRobot/smac-v0", "OfflineMeta/PointRobot/smac-v9",
    "OfflineMeta/AntDir/smac-v1", "PointRobot/smac/online-3", "PointRobot/smac/online-9999", "PointRobot/smac/ood",
    "AntDir/smac/online-3", "PointRobot/smac/val-online-3", "0" * 64, "f" * 64, f"{1:064x}", [], {}, [None], [[]],
    {"a": 1}, {"__proto__": 1}, [0, 1, 2], [0, 0], ["0"], DEEP, list(range(2000)), {str(i): i for i in range(500)},
    [[-10.0] * 3] * 20, [[[-10.0] * 3] * 20],
]  # fmt: skip


NUMBERS = [b"NaN", b"Infinity", b"-Infinity", b"1e300", b"1e999", b"true", b'"1"', b"01", b"0x1", b"1_0"]


def nodes(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all nodes of a tree."""
    found = [path]
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        found += nodes(value, (*path, key))
    return found


def spoil_node(tree: Any, rng: random.Random) -> tuple[str, Any]:
    """Change a node of a tree: replace, delete, duplicate, nest, rename, add."""
    paths = nodes(tree)
    paths += [path for path in paths if "returns" not in path] * 10  # the others are few among returns
    path = rng.choice(paths)
    if not path:
        return "replace the whole", rng.choice(VALUES)
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    key, how = path[-1], rng.choice(["replace", "replace", "replace", "delete", "nest", "duplicate", "swap", "add"])
    if how == "replace":
        parent[key] = rng.choice(VALUES)
    elif how == "delete":
        del parent[key]
    elif how == "nest":
        parent[key] = rng.choice([[parent[key]], {"value": parent[key]}, [parent[key]] * 2, str(parent[key])])
    elif how == "duplicate":
        if isinstance(parent, list):
            parent.append(parent[key])
        else:
            parent[f"{key}{rng.choice(['', '2', ' ', chr(0x202E), '<b>'])}"] = parent[key]
    elif how == "swap":
        other = rng.choice(paths[1:])
        place = tree
        try:
            for part in other[:-1]:
                place = place[part]
            parent[key], place[other[-1]] = place[other[-1]], parent[key]
            json.dumps(tree)
        except (KeyError, IndexError, TypeError, ValueError, RecursionError):
            return spoil_node(result(), rng)
    elif isinstance(parent, dict):
        parent[rng.choice(["score", "random", "expert", "curve", "references", "x", "", "constructor"])] = rng.choice(
            VALUES
        )
    else:
        parent.insert(key, rng.choice(VALUES))
    return how, tree


def spoil_text(text: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Change bytes, whatever they mean."""
    at, how = (
        rng.randrange(len(text)),
        rng.choice(["flip", "cut", "insert", "repeat", "key twice", "constant", "brackets"]),
    )
    if how == "flip":
        return how, text[:at] + bytes([text[at] ^ (1 << rng.randrange(8))]) + text[at + 1 :]
    if how == "cut":
        return how, text[:at] + (text[at + rng.randrange(1, 50) :] if rng.random() < 0.5 else b"")
    if how == "insert":
        wild = [
            b"\x00",
            b"\xff",
            b"\xe2\x80\xae",
            b'"',
            b"{",
            b"]",
            b"\\u202e",
            b"NaN",
            b"9" * 5000,
            b"#",
            b"&a *a",
            b"!!x ",
            b"- ",
        ]
        return how, text[:at] + rng.choice(wild) + text[at:]
    if how == "repeat":
        return how, text[:at] + text[at : at + 200] + text[at:]
    if how == "key twice":
        keys = re.findall(rb'"[a-z_]+": |^[a-z]+: ', text, re.MULTILINE)
        key = rng.choice(keys) if keys else b"x"
        joint = b", " if text.startswith(b"{") else b" 1\n"
        return how, text.replace(key, key + b"1" + joint + key, 1)
    if how == "constant":
        numbers = list(re.finditer(rb"-?\d+\.\d+|(?<=[\[ ])\d+", text))
        if numbers:
            one = rng.choice(numbers)
            text = text[: one.start()] + rng.choice(NUMBERS) + text[one.end() :]
        return how, text
    return how, text[:at] + b"[" * rng.choice([10, 1000, 200_000]) + text[at:]


def spoil_folder(home: Path, rng: random.Random) -> str:
    """Change which files there are, and what they are."""
    files = sorted(path for path in home.rglob("*") if path.is_file())
    file, how = rng.choice(files), rng.randrange(16)
    names = [
        "a.pkl",
        "a.json",
        "run.sh",
        ".hidden",
        "a\nb.json",
        "\u202ea.json",
        "online-3-s0.json.exe",
        "online-3-s99.json",
        "x" * 200,
    ]
    if how == 0:
        file.unlink()
        return "file gone"
    if how == 1:
        target = file.with_name(rng.choice(names))
        file.rename(target)
        return "file renamed"
    if how == 2:
        file.unlink()
        file.symlink_to(rng.choice(["/etc/passwd", "/dev/zero", str(files[0]), "nowhere", "."]))
        return "link"
    if how == 3:
        file.with_name(rng.choice(names)).write_bytes(b"\x80\x04cos\nsystem\n(S'id'\ntR.")
        return "other file"
    if how == 4:
        (home / "checkpoints").mkdir()
        kind = rng.choice([b"\x80\x04cos\nsystem\n(S'id'\ntR.", b"", b"\xff" * 20, b"\x02" + b"\0" * 7 + b"{}"])
        (home / "checkpoints" / rng.choice(["a.safetensors", "a.pt", "..safetensors"])).write_bytes(kind)
        return "checkpoint"
    if how == 5:
        with file.open("r+b") as content:
            content.truncate(100_000_000)
        return "100 MB"
    if how == 6:
        file.unlink()
        file.mkdir()
        return "folder in place of a file"
    if how == 7:
        file.unlink()
        os.mkfifo(file)
        return "pipe in place of a file"
    if how == 8:
        for folder in ("PointRobot-smac/deep/er", "../" + home.name + "/AntDir-smac", "evil"):
            (home / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, home / folder / "online-3-s0.json")
        return "files elsewhere"
    results = [one for one in files if one.suffix == ".json"]
    one, other = rng.sample(results, 2)
    if how == 9:
        shutil.copy(one, other)
        return "one result in place of another"
    content = json.loads(one.read_text())
    if how == 12:
        about = content["provenance"][0]
        about[rng.choice(["gradient_steps", "env_steps"])] = rng.choice([1, 20000, 10**6])
        one.write_text(json.dumps(content))
        return "another budget"
    if how == 13:
        protocol = one.name.rpartition("-s")[0]
        for each in one.parent.glob(f"{protocol}-s*.json"):
            changed = {**json.loads(each.read_text()), **rng.choice([{"agent": "mine:Other"}, {"sees_task": True}])}
            each.write_text(json.dumps(changed))
        return "another agent for one protocol"
    if how in (14, 15):
        same = [each for each in one.parent.glob(f"{one.name.rpartition('-s')[0]}-s*.json") if each != one]
        target = rng.choice(same)
        theirs, (tasks,) = json.loads(target.read_text()), content["returns"]
        if how == 14:
            rng.shuffle(tasks)
        else:
            tasks[rng.randrange(len(tasks))] = [-3.5] * len(tasks[0])
        target.write_text(json.dumps({**theirs, "returns": [tasks]}))
        return "a copy in another order" if how == 14 else "a copy but for one task"
    name = one.name.replace("-s", "-s1")
    if how == 10:
        content["seeds"] = [int(re.findall(r"\d+", name)[-1])]
        (one.parent / name).write_text(json.dumps(content))
        return "another seed, same checkpoint"
    theirs = json.loads(other.read_text())
    theirs["returns" if rng.random() < 0.5 else "provenance"] = content["returns"]
    theirs["provenance"] = content["provenance"]
    other.write_text(json.dumps(theirs))
    return "parts of another result"


def spoil(home: Path, rng: random.Random) -> str:
    """Spoil a submission in one way; say which."""
    kind = rng.random()
    if kind < 0.15:
        return spoil_folder(home, rng)
    files = [home / "method.yaml", *sorted((home / "PointRobot-smac").iterdir())]
    file = files[0] if rng.random() < 0.25 else rng.choice(files[1:])
    text = file.read_bytes()
    if kind < 0.4:
        how, text = spoil_text(text, rng)
    else:
        read: Callable[[bytes], Any] = yaml.safe_load if file.suffix == ".yaml" else json.loads
        how, tree = spoil_node(read(text), rng)
        with contextlib.suppress(yaml.YAMLError, RecursionError, UnicodeEncodeError, ValueError):
            dumped = yaml.safe_dump(tree, allow_unicode=True) if file.suffix == ".yaml" else json.dumps(tree)
            text = dumped.encode("utf-8", "surrogatepass")
    file.write_bytes(text)
    return f"{how} ({'method' if file.suffix == '.yaml' else 'result'})"


# --- a second opinion


def plain(text: Any, least: int = 0) -> bool:
    """Tell whether a text is what an author may write: one line, of bounded length, nothing hidden, no HTML."""
    return (
        isinstance(text, str)
        and least <= len(text) <= 600
        and not any(unicodedata.category(c)[0] in "CM" or unicodedata.category(c) in ("Zl", "Zp") for c in text)
        and not set(text) & set("<>")
    )


def whole(value: Any, least: int = 0, most: float = 1e12) -> bool:
    """Tell whether a value is a whole number within bounds."""
    return type(value) is int and least <= value <= most


def invalid(home: Path) -> str:
    """Say what is wrong with a submission on PointRobot/smac, by code that shares nothing with the package's."""
    for path in home.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            return f"{path} is no file"
    checkpoints = [p for p in home.rglob("*") if p.parent.name == "checkpoints"]
    if checkpoints:
        return "a checkpoint that nobody evaluated"
    wrong = described(home / "method.yaml")
    seen: dict[str, dict[int, dict[str, Any]]] = {}
    for file in home.rglob("*"):
        if file.is_dir() or file.name == "method.yaml":
            continue
        named = re.fullmatch(r"PointRobot-smac/([a-z0-9-]+)-s(\d+)\.json", file.relative_to(home).as_posix())
        if named is None:
            return f"{file} has no place"
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=once, parse_constant=refuse)
        wrong = wrong or wrong_result(content, named[1], int(named[2]))
        seen.setdefault(named[1], {})[int(named[2])] = content
    seeds = [frozenset(own) for own in seen.values()]
    if len(set(seeds)) != 1 or len(seeds[0]) < 3 or not any(re.match(r"online-([3-9]|\d\d)", name) for name in seen):
        return "incomplete"
    files = [{own[seed]["provenance"][0]["checkpoint"] for own in seen.values()} for seed in seeds[0]]
    if any(len(own) != 1 for own in files) or len(set.union(*files)) != len(files):
        return "checkpoints"
    for own in seen.values():
        alike = [
            (c["agent"], c.get("sees_task", False), c["repeats"], c["provenance"][0].get("config", {}))
            for c in own.values()
        ]
        if any(one != alike[0] for one in alike):
            return "seeds differ"
        flat = [[value for task in c["returns"][0] for value in task] for c in own.values()]
        for k, ours in enumerate(flat):
            for theirs in flat[:k]:
                equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
                if equal > 0.9 * len(ours) or sorted(ours) == sorted(theirs):
                    return "copies"
    every = [c for own in seen.values() for c in own.values()]
    if len({(c["agent"], c.get("sees_task", False)) for c in every}) > 1:
        return "several agents"
    budgets = {(c["seeds"][0], *(c["provenance"][0].get(k, 0) for k in ("gradient_steps", "env_steps"))) for c in every}
    return "several budgets" if len(budgets) > len(seeds[0]) else wrong


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs), "a key twice"
    return dict(pairs)


def refuse(constant: str) -> None:
    raise AssertionError(constant)


def described(file: Path) -> str:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    lines = ("title", "paper", "information", "hardware")
    if not {"name", "authors", "code", "tuning", *lines} <= content.keys() <= {
        "name", "authors", "code", "tuning", "note", "commit", "checkpoints", *lines,
    }:  # fmt: skip
        return "fields of method.yaml"
    if content["name"] != "mine" or not all(plain(content[line], 1) for line in lines):
        return "texts of method.yaml"
    if not content["authors"] or not all(plain(author, 1) for author in content["authors"]):
        return "authors"
    if not (content.get("note") is None or plain(content["note"], 1)) or ".." in content["code"].split("/"):
        return "note or code"
    if not re.fullmatch(r"(https://[!-~]+|[\w./-]+)", content["code"], re.ASCII):
        return "code"
    if not re.fullmatch(r"[0-9a-f]{7,64}\+?", content["commit"]):
        return "commit"
    tuning = content["tuning"]
    if tuning.keys() != {"trials", "rollouts", "note"} or not plain(tuning["note"], 1):
        return "tuning"
    return "" if all(tuning[name] is None or whole(tuning[name]) for name in ("trials", "rollouts")) else "tuning"


def wrong_result(content: dict[str, Any], protocol: str, seed: int) -> str:
    required = {"schema_version", "benchmark", "method", "agent", "seeds", "repeats", "returns", "provenance"}
    if not required <= content.keys() <= required | {"sees_task", "metrics"}:
        return "fields of a result"
    episodes = 1 if "online" not in protocol else int(protocol.rpartition("-")[2])
    about = [content[name] for name in ("schema_version", "method", "benchmark", "seeds")]
    if about != [2, "mine", f"PointRobot/smac/{protocol}", [seed]]:
        return "what it is about"
    if not re.fullmatch(r"[\w.-]+:\w+", content["agent"], re.ASCII) or not whole(content["repeats"], 3):
        return "agent or repeats"
    if type(content.get("sees_task", False)) is not bool:
        return "sees_task"
    (returns,) = content["returns"]
    if len(returns) != (
        10 if protocol == "ood" else 100 if "test100" in protocol else 80 if "train" in protocol else 20
    ):
        return "tasks"
    if any(len(task) != (10 if protocol == "ood" else episodes) for task in returns):
        return "episodes"
    if any(type(value) not in (int, float) or not -1500 < value <= 0 for task in returns for value in task):
        return "a return"
    for name, values in content.get("metrics", {}).items():
        if not plain(name, 1) or len(values) != 1 or type(values[0]) not in (int, float) or not abs(values[0]) <= 1e9:
            return "a metric"
    (said,) = content["provenance"]
    fields = set(result()["provenance"][0])
    if not said.keys() <= fields or said["dataset"] != {"id": TRAINED, "sha256": MANIFEST[TRAINED]["sha256"]}:
        return "data"
    if said.get("context", {}) != (
        {"id": LOGGED, "sha256": MANIFEST[LOGGED]["sha256"]} if "offline" in protocol else {}
    ):
        return "context"
    if (
        not {"offlinemeta", "mujoco", "gymnasium", "numpy"} <= said["versions"].keys()
        or said["versions"]["mujoco"] != "3.3.0"
    ):
        return "versions"
    texts = [*said["versions"], *said["versions"].values(), said["machine"], said["started"], *said.get("config", {})]
    if not all(plain(text, 1) for text in texts[:4]) or not all(map(plain, texts)):
        return "texts"
    for value in said.get("config", {}).values():
        for one in value if isinstance(value, list) else [value]:
            if not (
                one is None or isinstance(one, bool) or plain(one) or (type(one) in (int, float) and abs(one) <= 1e18)
            ):
                return "config"
    steps = [said.get("gradient_steps", 0), said.get("env_steps", 0)]
    time_ok = type(said.get("wall_time", 0.0)) in (int, float) and 0 <= said.get("wall_time", 0.0) <= 1e9
    if not all(map(whole, steps)) or sum(steps) < 1 or not time_ok or not whole(said["evaluation_seed"], most=2**32):
        return "steps"
    return "" if re.fullmatch(r"[0-9a-f]{64}", said["checkpoint"]) else "checkpoint"


# --- many times


def try_one(seed: int, folder: Path) -> tuple[str, tuple[str, ...], str, float]:
    """Spoil a submission; return how, the rules that refuse it, the first message, and the time it took."""
    from offlinemeta.leaderboard.submission import check

    home = write(folder)
    how = spoil(home, random.Random(seed))
    started = time.perf_counter()
    found = check(home, root=folder / "nothing")
    took = time.perf_counter() - started
    rules = tuple(dict.fromkeys(fault.rule for fault in found.faults))
    if not rules:
        try:
            wrong = invalid(home)
        except (AssertionError, KeyError, TypeError, ValueError, AttributeError) as error:
            wrong = repr(error)
        assert not wrong, f"seed {seed}, {how}: accepted, although {wrong}"
    for fault in found.faults:
        assert str(fault).isprintable()
    return how, rules, str(found.faults[0]) if found.faults else "", took


def main(count: int) -> None:
    """Spoil it ``count`` times, and print what refused it."""
    ways, refused, messages, slowest = Counter[str](), Counter[str](), dict[str, str](), 0.0
    accepted = Counter[str]()
    for seed in range(count):
        with tempfile.TemporaryDirectory() as folder:
            how, rules, message, took = try_one(seed, Path(folder))
        ways[how] += 1
        slowest = max(slowest, took)
        refused.update(rules[:1])
        accepted.update([how] if not rules else [])
        if rules:
            messages.setdefault(f"{rules[0]}, {how}", message)
    print(
        f"{count:,} tried, {refused.total():,} refused, {accepted.total():,} accepted, which are valid; "
        f"slowest {slowest:.2f} s"
    )
    for title, counts in (("ways", ways), ("refused by rule", refused), ("accepted after", accepted)):
        print(f"\n{title}: " + ", ".join(f"{what} {number:,}" for what, number in counts.most_common()))
    print("\nthe first message of each way and rule:")
    for key, message in sorted(messages.items()):
        print(f"- {key}: {message[:240]}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
