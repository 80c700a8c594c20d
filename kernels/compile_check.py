"""Compile every kernel variant for GPUs that are not here, and check what it uses.

    python -m embodied_mem.kernels.compile_check [--arch 80 89 90 100] [--op NAME] [--json] [--markdown]

The triton wheel carries the compiler, so no GPU and no driver are needed. A pass proves types, layouts and resources,
not results (`parity`). Checked: shared memory within the chip's limit, and on sm_90 no spilled register and the
instructions that a variant must contain. A machine with two cores takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from embodied_mem.kernels._registry import CompileCase, get_op, op_names

__all__ = ["compile_case", "table"]

ARCHS = (80, 89, 90, 100)
# Shared memory a program may use, bytes.
SHARED_LIMIT = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
_INSTRUCTIONS = ("LDL", "STL", "LDG.E.128", "STG.E.128", "HMMA", "HGMMA", "LDGSTS")


def compile_case(op: str, case: CompileCase, arch: int) -> dict[str, Any]:
    """Compile one variant; returns its row of the resource table, with ``problems``."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = case.kernel.arg_names
    signature = {name: "constexpr" if name in case.constants else case.types[name] for name in names}
    aligned = [i for i, name in enumerate(names) if name not in case.constants and name not in case.odd]
    attributes = {(i,): [["tt.divisibility", 16]] for i in aligned if not signature[names[i]].startswith("fp")}
    constants = {name: value for name, value in case.constants.items() if name in names}
    made = triton.compile(
        ASTSource(case.kernel, signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", arch, 32),
        options={"num_warps": case.num_warps, "num_stages": case.num_stages},
    )
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = _output(tools / "cuobjdump", "-res-usage", file.name)
        code = _output(tools / "cuobjdump", "-sass", file.name) if arch == 90 else ""
    used = {key.lower(): int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    row: dict[str, Any] = {
        "op": op,
        "case": case.name,
        "arch": arch,
        "registers": used["reg"],
        "stack": used["stack"],
        "local": used["local"],
        "shared": made.metadata.shared,
        "num_warps": case.num_warps,
    }
    counts = {name: len(re.findall(rf"\b{re.escape(name)}\b", code)) for name in _INSTRUCTIONS} if code else {}
    row |= {"instructions": counts}
    row["problems"] = _problems(case, arch, row, counts)
    return row


def _problems(case: CompileCase, arch: int, row: dict[str, Any], counts: dict[str, int]) -> list[str]:
    found = []
    spilled = row["stack"] + row["local"]
    if arch == 90 and (spilled or counts["LDL"] + counts["STL"]):
        found.append(f"spills: {counts['LDL']} loads, {counts['STL']} stores, {row['stack']} bytes of stack")
    if row["shared"] > SHARED_LIMIT[arch]:
        found.append(f"shared memory {row['shared']} above {SHARED_LIMIT[arch]}")
    if counts:
        found += [f"no {name} in the code" for name in case.expect if not counts.get(name)]
    return found


def _output(*words: object) -> str:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout


def _job(job: tuple[str, int, int]) -> dict[str, Any]:
    op, index, arch = job
    case = get_op(op).compile_cases()[index]
    try:
        return compile_case(op, case, arch)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return {"op": op, "case": case.name, "arch": arch, "problems": [f"does not compile: {lines[0]}"]}


def table(archs: tuple[int, ...] = ARCHS, ops: list[str] | None = None, workers: int = 2) -> list[dict[str, Any]]:
    """Compile all cases of the named operations (default all) and return the rows in a fixed order."""
    jobs = [
        (op, index, arch)
        for op in ops or op_names()
        for index, case in enumerate(get_op(op).compile_cases())
        for arch in archs
        if arch in case.archs
    ]
    if workers < 2:
        return [_job(job) for job in jobs]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(_job, jobs))


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the sm_90 rows as a table for the docs; the other targets in one column."""
    lines = ["| operation | variant | warps | registers | shared bytes | spilled bytes | also compiled for |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        if row["arch"] != 90 or "registers" not in row:
            continue
        others = [r["arch"] for r in rows if (r["op"], r["case"]) == (row["op"], row["case"]) and r["arch"] != 90]
        cells = [f"`{row['op']}`", row["case"], row["num_warps"], row["registers"], row["shared"]]
        cells += [row["stack"] + row["local"], ", ".join(f"sm_{arch}" for arch in others) or "-"]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Print the table; the exit status is 1 if a variant has problems."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, nargs="+", default=list(ARCHS))
    parser.add_argument("--op", action="append")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    chosen = parser.parse_args(words)
    rows = table(tuple(chosen.arch), chosen.op, chosen.workers)
    bad = [row for row in rows if row["problems"]]
    if chosen.json:
        print(json.dumps({"rows": rows, "failed": len(bad)}, indent=1))
    elif chosen.markdown:
        print(markdown(rows))
    else:
        for row in rows:
            verdict = "; ".join(row["problems"]) or "ok"
            print(f"{row['op']:24} {row['case']:28} sm_{row['arch']:<4} {row.get('registers', '-'):>4} regs  {verdict}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
