"""PTX as a library for the host: `python ptx.py FILE.ptx FILE.so` has each kernel run its threads one after the other.

For `stub_cuda.c`, so that kernels are tried without a card. Only what LLVM writes for Taichi's kernels is known; what
threads of a block do together, barriers and shuffles, is not. Each register becomes a variable of C, each instruction
an assignment (NVIDIA, Parallel Thread Execution ISA 7.1), without the flushing of tiny numbers to zero.
"""

import re
import subprocess
import sys
from pathlib import Path

_BEGIN = """
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>
static unsigned tid, ntid, ctaid, nctaid;
static jmp_buf ended;
static uint32_t bits_of_float(float x) { uint32_t y; memcpy(&y, &x, 4); return y; }
static uint64_t bits_of_double(double x) { uint64_t y; memcpy(&y, &x, 8); return y; }
static float float_of(uint32_t x) { float y; memcpy(&y, &x, 4); return y; }
static double double_of(uint64_t x) { double y; memcpy(&y, &x, 8); return y; }
"""
_LAUNCH = """
void launch_{name}(void **parameters, unsigned blocks, unsigned threads) {{
    nctaid = blocks; ntid = threads;
    for (ctaid = 0; ctaid < blocks; ctaid++)
        for (tid = 0; tid < threads; tid++)
            if (!setjmp(ended)) {name}({parameters});
}}
"""
_TYPES = {
    **{f"s{n}": f"int{n}_t" for n in (8, 16, 32, 64)},
    **{f"{kind}{n}": f"uint{n}_t" for n in (8, 16, 32, 64) for kind in "ub"},
    "f32": "float",
    "f64": "double",
    "pred": "_Bool",
}
_SPECIAL = {f"%{name}.x": name for name in ("tid", "ntid", "ctaid", "nctaid")}

# Instructions whose operands a, b, c are of one type T, of W bits, as is the result.
_FORMULAS = {
    **{name: f"a {sign} b" for name, sign in zip(("add", "sub", "mul", "div", "rem"), "+-*/%", strict=True)},
    **{name: f"a {sign} b" for name, sign in zip(("and", "or", "xor"), "&|^", strict=True)},
    "mov": "a",
    "cvta": "a",
    "not": "a ^ (T)-1",
    "neg": "-a",
    "abs": "a < 0 ? -a : a",
    "popc": "__builtin_popcountll(a)",
    "mad": "a * b + c",
    "fma": "fma(a, b, c)",
    "sqrt": "sqrt(a)",
    "rsqrt": "1 / sqrt(a)",
    "rcp": "1 / a",
    # of two of which one is not a number, the other
    "min": "a < b || b != b ? a : b",
    "max": "a > b || b != b ? a : b",
    # as far as there are bits; then none, or the sign
    "shl": "b < W ? a << b : 0",
    "shr": "b < W ? a >> b : a < 0 ? -1 : 0",
}
# Comparisons; those that end in u hold of what is not a number, too.
_COMPARED = {
    **{"eq": "a == b", "ne": "a < b || a > b", "lt": "a < b", "le": "a <= b", "gt": "a > b", "ge": "a >= b"},
    **{"neu": "a != b", "ltu": "!(a >= b)", "leu": "!(a > b)", "gtu": "!(a <= b)", "geu": "!(a < b)"},
    **{"equ": "!(a < b || a > b)", "num": "a == a && b == b", "nan": "a != a || b != b"},
}
_ROUNDED = {"rmi": "floor(a)", "rpi": "ceil(a)", "rni": "rint(a)", "rzi": "trunc(a)"}
_ATOMIC = {"add": "old + a", "exch": "a", "or": "old | a", "and": "old & a"}

_FUNCTION = re.compile(r"\.(entry|func)\s*(?:\(([^)]*)\)\s*)?([\w$]+)\s*\(([^)]*)\)[^{;]*([{;])")
_GLOBAL = re.compile(r"\.global \.align \d+ \.b8 ([\w$]+)\[(\d+)\](?: = (\{[^}]*\}))?;")


def translate(text: str) -> str:
    """PTX to C."""
    text = re.sub(r"//.*", "", text)
    heads, bodies, at = [], {}, 0
    for name, size, values in _GLOBAL.findall(text):
        heads.append(f"static uint8_t {name}[{size}] __attribute__((aligned(16))) = {values or '{0}'};")
    while match := _FUNCTION.search(text, at):
        kind, results, name, parameters, end = match.groups()
        function = _Function(name, results or "", parameters)
        heads.append(function.head + ";")
        at = match.end()
        if end == "{":
            body, at = _block(text, at)
            bodies[name] = f"{function.head} {{\n{function.body(body)}}}"
            if kind == "entry":
                bodies[name] += _LAUNCH.format(name=name, parameters=", ".join(function.given))
        else:
            # declared only, as it seems so far: what a card's own libraries have, an assertion that fails
            bodies.setdefault(name, f"{function.head} {{ abort(); }}")
    return "\n".join([_BEGIN, *heads, *bodies.values()])


def _block(text: str, at: int) -> tuple[str, int]:
    """What is within braces, of which the first is before `at`; and where it ends."""
    begin, depth = at, 1
    while depth:
        at = re.compile(r"[{}]").search(text, at).end()
        depth += 1 if text[at - 1] == "{" else -1
    return text[begin : at - 1], at


class _Function:
    """A function of C for one of PTX: its parameters are values, or the places of structures."""

    def __init__(self, name: str, results: str, parameters: str):
        self._registers: dict[str, str] = {}
        # names that are places, not values
        self._places: set[str] = set()
        declared, self.given = [], []
        for k, (kind, parameter, size) in enumerate(re.findall(r"\.(\w+) ([\w$]+)(\[\d+\])?\s*(?:,|$)", parameters)):
            if size:
                self._places.add(parameter)
                declared.append(f"uint8_t *{parameter}")
                self.given.append(f"parameters[{k}]")
            else:
                declared.append(f"{_TYPES[kind]} {parameter}")
                self.given.append(f"*({_TYPES[kind]} *)parameters[{k}]")
        result = re.search(r"\.(\w+) ([\w$]+)\s*$", results)
        self._kind, self._result = (_TYPES[result[1]], result[2]) if result else ("void", "")
        self.head = f"static {self._kind} {name}({', '.join(declared) or 'void'})"

    def body(self, text: str) -> str:
        """The function's instructions."""
        lines, at = [f"{self._kind} {self._result};" if self._result else ""], 0
        pattern = re.compile(r"\s*(?:([{}])|([$\w]+)\s*:|([^;]*);)")
        while text[at:].strip():
            match = pattern.match(text, at)
            at = match.end()
            brace, label, statement = match.groups()
            if statement:
                lines.append(self._statement(" ".join(statement.split())))
            else:
                lines.append(brace or f"{label}:;")
        return "\n".join(lines) + "\n"

    def _statement(self, statement: str) -> str:
        if statement.startswith("."):
            return self._declaration(statement)
        guard = re.match(r"@(!?)(%\w+) (.*)", statement)
        if guard:
            return f"if ({guard[1]}{_variable(guard[2])}) {{ {self._statement(guard[3])} }}"
        name, _, rest = statement.partition(" ")
        operation, *modifiers = name.split(".")
        operands = [x.strip() for x in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", rest)]
        kinds = [x for x in modifiers if x in _TYPES]
        match operation:
            case "call":
                return self._call(rest)
            case "bra":
                return f"goto {operands[0]};"
            case "ret":
                return f"return {self._result};"
            case "exit":
                return "longjmp(ended, 1);"
            case "membar":
                return ""
            case "mov" if "{" in rest:
                return self._halves(*operands, kinds[0])
            case "ld":
                place = self._place(operands[1], kinds[0])
                return " ".join(self._set(x, f"{place}[{k}]", kinds[0]) for k, x in enumerate(_listed(operands[0])))
            case "st":
                place, values = self._place(operands[0], kinds[0]), _listed(operands[1])
                return " ".join(f"{place}[{k}] = {self._value(x, kinds[0])};" for k, x in enumerate(values))
            case "selp":
                a, b = (self._value(x, kinds[0]) for x in operands[1:3])
                return self._set(operands[0], f"({self._value(operands[3], 'pred')} ? {a} : {b})", kinds[0])
            case "setp":
                return self._set(operands[0], self._formula(_COMPARED[modifiers[0]], operands[1:], kinds[-1]), "pred")
            case "cvt":
                rounded = (_ROUNDED[x] for x in modifiers if x in _ROUNDED and kinds[1].startswith("f"))
                value = self._formula(next(rounded, "a"), operands[1:], kinds[1])
                return self._set(operands[0], f"({_TYPES[kinds[0]]}){value}", kinds[0])
            case "atom" if not _ATOMIC.keys().isdisjoint(modifiers):
                place = f"{self._place(operands[1], kinds[-1])}[0]"
                formula = next(_ATOMIC[x] for x in modifiers if x in _ATOMIC)
                before = self._set(operands[0], "old", kinds[-1])
                after = self._formula(formula, operands[2:], kinds[-1])
                return f"{{ {_TYPES[kinds[-1]]} old = {place}; {place} = {after}; {before} }}"
        if operation not in _FORMULAS:
            raise SystemExit(f"ptx.py does not know this instruction: {statement}")
        kind = kinds[0]
        wide = f"{kind[0]}{2 * int(kind[1:])}" if "wide" in modifiers else kind
        return self._set(operands[0], self._formula(_FORMULAS[operation], operands[1:], kind, wide), wide)

    def _declaration(self, statement: str) -> str:
        match statement.split():
            case [".reg", kind, names]:
                name, number = re.match(r"(%?\w+)(?:<(\d+)>)?", names).groups()
                registers = [name] if number is None else [f"{name}{k}" for k in range(int(number))]
                self._registers.update(dict.fromkeys(registers, kind[1:]))
                return f"{_TYPES[kind[1:]]} {', '.join(map(_variable, registers))};"
            case [".param", kind, name]:
                return f"{_TYPES[kind[1:]]} {name};"
            case [".local", ".align", _, ".b8", array]:
                self._places.add(array.partition("[")[0])
                return f"uint8_t {array} __attribute__((aligned(16)));"
            case [".pragma" | ".callprototype", *_]:
                return ""
        raise SystemExit(f"ptx.py does not know this declaration: {statement}")

    def _call(self, rest: str) -> str:
        result, function, arguments = re.match(r"(?:\((\w+)\)\s*,)?\s*([%\w$]+)\s*,\s*\(([^)]*)\)", rest).groups()
        if function.startswith("%"):
            # all of Taichi's take and give 64 bits
            kinds = ", ".join(["uint64_t"] * len(arguments.split(",")))
            function = f"((uint64_t (*)({kinds})){_variable(function)})"
        return f"{f'{result} = ' if result else ''}{function}({arguments});"

    def _halves(self, to: str, value: str, kind: str) -> str:
        """Two registers as one of twice their size, or the other way round."""
        size = int(kind[1:]) // 2
        if value.startswith("{"):
            low, high = (f"({_TYPES[kind]}){self._value(x, f'b{size}')}" for x in _listed(value))
            return self._set(to, f"({low} | {high} << {size})", kind)
        whole = self._value(value, kind)
        parts = zip(_listed(to), (whole, f"({whole} >> {size})"), strict=True)
        return " ".join(self._set(x, f"(uint{size}_t){part}", f"b{size}") for x, part in parts if x != "_")

    def _formula(self, formula: str, operands: list[str], kind: str, wide: str | None = None) -> str:
        """The value of a formula of operands of a type, computed in another."""
        held = _TYPES[wide or kind]
        given = " ".join(f"{held} {name} = {self._value(x, kind)};" for name, x in zip("abc", operands))
        formula = re.sub(r"\bT\b", held, formula).replace("W", re.sub(r"\D", "", kind))
        return f"({{ {given} {formula}; }})"

    def _value(self, operand: str, kind: str) -> str:
        """An operand as a value of a type."""
        if operand in _SPECIAL:
            return _SPECIAL[operand]
        if operand.startswith("%"):
            return _as(_variable(operand), self._registers[operand], kind)
        if re.match(r"0[fd]", operand):
            return f"{'float' if operand[1] == 'f' else 'double'}_of(0x{operand[2:]}ull)"
        if re.match(r"-?\d", operand):
            # the least of 64 bits is no literal of C
            return f"({_TYPES[kind]})({int(operand) + 1}ll - 1)"
        return f"(uint64_t){operand}"

    def _set(self, register: str, value: str, kind: str) -> str:
        return f"{_variable(register)} = {_as(value, kind, self._registers[register])};"

    def _place(self, operand: str, kind: str) -> str:
        """The place [register or name + offset] of values of a type."""
        base, offset = re.match(r"\[([%\w$]+)\s*(?:\+\s*(-?\d+))?\]", operand).groups()
        if base.startswith("%"):
            base = _variable(base)
        elif base not in self._places:
            base = f"&{base}"
        return f"(({_TYPES[kind]} *)((uint64_t){base} + {offset or 0}))"


def _listed(operand: str) -> list[str]:
    """The parts of {a, b}, or the operand itself."""
    return [x.strip() for x in operand.strip("{}").split(",")]


def _variable(register: str) -> str:
    return "r_" + register.removeprefix("%")


def _as(value: str, given: str, wanted: str) -> str:
    """A value of one type as another: between floats and integers bit by bit."""
    if given.startswith("f") == wanted.startswith("f"):
        return f"({_TYPES[wanted]}){value}"
    return f"bits_of_{_TYPES[given]}({value})" if given.startswith("f") else f"{_TYPES[wanted]}_of({value})"


if __name__ == "__main__":
    source, library = map(Path, sys.argv[1:])
    code = library.with_suffix(".c")
    code.write_text(translate(source.read_text()))
    options = ["-shared", "-fPIC", "-O1", "-w", "-ffp-contract=off"]
    subprocess.run(["cc", *options, "-o", library, code, "-lm"], check=True)
