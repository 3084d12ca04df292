#!/usr/bin/env python3
"""The licences of what the program contains, as one text: every crate that is linked into it, with version, licence,
source, and each text that comes with them, once.

    scripts/licences.py FILE [TRIPLE]     TRIPLE: what it is built for, if not this machine

Asks cargo which crates these are, and reads their texts where cargo has unpacked them: after a build it needs no network.
"""

import os
import pathlib
import re
import subprocess
import sys

HEAD = """\
What the program undertone ({triple}) contains besides its own code
====================================================================================================

{count} crates, and Rust's standard library (Copyright the Rust Project contributors; MIT OR Apache-2.0;
https://github.com/rust-lang/rust). The numbers behind a crate name the texts that came with it, which follow below.
All are used unchanged.

The source of each is at https://crates.io/crates/NAME/VERSION, and as an archive at
https://static.crates.io/crates/NAME/NAME-VERSION.crate. That is where the source of the parts under the Mozilla
Public License 2.0 can be had, as its section 3.2 asks to say:

{mozilla}

----------------------------------------------------------------------------------------------------

"""
# Not a folder of sources with such a name.
TEXT = re.compile(r"(?i)(un)?licen[cs]e|copying|copyright|notice|patents")


def crates(triple):
    """(name, version, licence, repository) of what is linked; neither what builds nor what tests it."""
    command = [os.environ.get("CARGO", "cargo"), "tree", "--locked", "-e", "normal,no-proc-macro", "--prefix", "none"]
    command += ["--target", triple, "-f", "{p}\t{l}\t{r}"]
    found = set()
    for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        package, licence, repository = line.removesuffix(" (*)").split("\t")
        name, version, *path = package.split(" ")
        if not path:
            found.add((name, version.removeprefix("v"), licence, repository))
        elif name != "undertone":
            sys.exit(f"licences: {package} is from no registry, and its texts are not looked for")
    return sorted(found)


def host():
    said = subprocess.run([os.environ.get("RUSTC", "rustc"), "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.search(r"^host: (.*)$", said, re.M).group(1)


def texts(name, version):
    """What the crate says about its licence."""
    home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    folder = next(home.glob(f"registry/src/*/{name}-{version}"), None)
    if folder is None:
        sys.exit(f"licences: {name} {version} is not unpacked below {home}/registry/src; build first")
    files = sorted(file for file in folder.iterdir() if TEXT.match(file.name) and file.is_file())
    return [file.read_text(errors="replace") for file in files]


def main():
    out, *triple = sys.argv[1:]
    triple = triple[0] if triple else host()
    listed, numbers, bodies = [], {}, []
    all_crates = crates(triple)
    for name, version, licence, repository in all_crates:
        mine = []
        for text in texts(name, version):
            key = " ".join(text.split())
            if key and key not in numbers:
                numbers[key] = len(numbers) + 1
                bodies.append("\n".join(line.rstrip() for line in text.strip("\r\n").splitlines()))
            if key:
                mine.append(numbers[key])
        which = ", ".join(str(number) for number in sorted(set(mine))) or "none came with it: the licence's usual text holds"
        listed.append(f"{name} {version}\n    {licence or 'see its texts'}\n    {repository}\n    texts: {which}\n")
    mozilla = [f"{name} {version}" for name, version, licence, _ in all_crates if "MPL" in licence]
    head = HEAD.format(triple=triple, count=len(all_crates), mozilla="\n".join(mozilla))
    rule = "-" * 100
    with open(out, "w") as file:
        file.write(head + "\n".join(listed))
        for number, body in enumerate(bodies, 1):
            file.write(f"\n{rule}\nText {number}\n{rule}\n\n{body}\n")


if __name__ == "__main__":
    main()
