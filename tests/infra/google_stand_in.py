"""Stands in for `gcloud`, `terraform` and `snapkeep`: answers as they document, keeps what they would change, and
records every call. The folder that STAND_IN names is its cloud:

    calls              every call, a JSON list a line
    buckets/B/O        the objects of bucket B; `B.settings` beside it: the flags it was given
    deployed           the release that the functions run
    mishaps            a JSON object: start of a call -> [exit status, what it says]; "killed before call" -> a number:
                       then all that runs is ended, as by a machine that goes away
    broken             releases with which nothing works
    strangers          buckets that are another project's
    once               a start of a call: the next such call fails, and none after it

Nothing of this tests Google; it tests what our scripts do with such answers.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

CLOUD = Path(os.environ["STAND_IN"])


def main(words: list[str]) -> int:
    line = " ".join(words)
    with (CLOUD / "calls").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    number = len((CLOUD / "calls").read_text().splitlines())
    mishaps = json.loads((CLOUD / "mishaps").read_text()) if (CLOUD / "mishaps").exists() else {}
    if mishaps.get("killed before call") == number:
        os.killpg(os.getpgrp(), signal.SIGKILL)
    for start, (status, said) in ((k, v) for k, v in mishaps.items() if k != "killed before call"):
        if line.startswith(start):
            sys.stderr.write(said + "\n")
            return int(status)
    if any(line.startswith(start) for start in lines("once")):
        (CLOUD / "once").unlink()
        sys.stderr.write("Error: 403: Permission denied on what was granted a moment ago\n")
        return 1
    if words[0] == "gcloud":
        return gcloud(words[1:])
    return terraform(words[1:]) if words[0] == "terraform" else snapkeep(words[1:])


def lines(name: str) -> list[str]:
    return (CLOUD / name).read_text().splitlines() if (CLOUD / name).exists() else []


def at(address: str) -> Path:
    return CLOUD / "buckets" / address.removeprefix("gs://")


def gcloud(words: list[str]) -> int:
    plain = [word for word in words if not word.startswith("--")]
    match plain:
        case ["auth", "list"]:
            sys.stdout.write("operator@vendor.example\n")
        case ["auth", "application-default", "print-access-token"]:
            sys.stdout.write("ya29.token\n")
        case ["services", "enable", *_] | ["beta", "services", "identity", "create"]:
            pass
        case ["storage", "buckets", "list"]:
            wanted = next(word.partition("name=")[2] for word in words if word.startswith("--filter=name="))
            if at(wanted).is_dir() and wanted not in lines("strangers"):
                sys.stdout.write(wanted + "\n")
        case ["storage", "objects", "describe", address]:
            if not at(address).exists():
                sys.stderr.write(f"ERROR: (gcloud.storage.describe) {address} not found: 404.\n")
                return 1
            sys.stdout.write(at(address).name + "\n")
        case ["storage", "buckets", "create", address]:
            if at(address).exists():
                sys.stderr.write("ERROR: (gcloud.storage.buckets.create) HTTPError 409: Your previous request ...\n")
                return 1
            at(address).mkdir(parents=True)
            settle(address, words)
        case ["storage", "buckets", "update", address]:
            settle(address, words)
        case ["storage", "cp", "-", address]:
            at(address).parent.mkdir(exist_ok=True)
            at(address).write_bytes(sys.stdin.buffer.read())
        case ["storage", "cp", file, address]:
            at(address).parent.mkdir(exist_ok=True)
            if "--no-clobber" in words and at(address).exists():
                sys.stderr.write(f"Skipping existing destination object (no-clobber): {address}\n")
            else:
                shutil.copy(file, at(address))
        case ["storage", "cat", address]:
            sys.stdout.write(at(address).read_text())
        case ["storage", "objects", "list", pattern]:
            folder, ending = at(pattern).parent, at(pattern).name
            for one in sorted(folder.glob(ending)):
                sys.stdout.write(f"2026-11-22T00:00:00+0000\treleases/{one.name}\n")
        case ["functions", "describe", "snapkeep-plan"]:
            if not (CLOUD / "deployed").exists():
                sys.stderr.write("ERROR: (gcloud.functions.describe) ResponseError: status=[404], code=[Not Found]\n")
                return 1
            sys.stdout.write((CLOUD / "deployed").read_text() + "\n")
        case ["builds", "triggers", "run", _]:
            pass
        case _:
            sys.stderr.write(f"ERROR: (gcloud) Invalid choice: {plain}\n")
            return 2
    return 0


def settle(address: str, words: list[str]) -> None:
    settings = at(address).parent / (at(address).name + ".settings")
    given = set(settings.read_text().split()) if settings.exists() else set()
    kept = {word for word in words if word.startswith("--") and not word.startswith("--project=")}
    settings.write_text("\n".join(sorted(given | kept)))


def terraform(words: list[str]) -> int:
    root = Path(words[0].removeprefix("-chdir="))
    values = dict(word.removeprefix("-var=").split("=", 1) for word in words if word.startswith("-var="))
    bucket = next((word.partition("bucket=")[2] for word in words if word.startswith("-backend-config=bucket=")), None)
    match words[1]:
        case "init":
            (CLOUD / "backend").write_text(f"{root} {bucket}")
        case "plan" | "apply" | "destroy" if (CLOUD / "backend").exists():
            state = (CLOUD / "backend").read_text().split()[1]
            archive = CLOUD / "buckets" / state / values["release"]
            if words[1] == "apply" and not archive.exists():
                sys.stderr.write(f"Error: Error creating function: object {values['release']} not found\n")
                return 1
            if words[1] == "apply":
                (CLOUD / "deployed").write_text(values["release"])
            if words[1] == "destroy":
                (CLOUD / "deployed").unlink(missing_ok=True)
        case _:
            sys.stderr.write("Error: Backend initialization required, please run terraform init\n")
            return 1
    return 0


def snapkeep(words: list[str]) -> int:
    """Doctor is well; a point is verified unless a release is deployed with which nothing works."""
    if words[0] == "points" and (CLOUD / "deployed").read_text().split("/")[-1] in lines("broken"):
        sys.stderr.write("snapkeep: the point has failed\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main([Path(sys.argv[1]).name, *sys.argv[2:]]))
