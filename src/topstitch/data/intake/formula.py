"""Formulas over the columns of a table, such as `100 * survived - 0.1 * cost`: read as Python's expressions, checked node by node, never run as code.

Arithmetic (+ - * / % **), comparisons (also chained, and `in`), and/or/not, and the functions abs, sqrt, log, exp, min, max, clip,
where(condition, then, else), missing(column) and col("a name with spaces"). An empty cell makes the result empty, except in
`missing`, and where the condition of `where` chose the other side.
"""

import ast
import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Literal, NoReturn

import polars as pl

from ..episodes import BadData
from ..formats import among

Type = Literal["number", "flag", "text"]
LENGTH, NODES, DEPTH, WEIGHT = 1000, 200, 30, 10_000


@dataclasses.dataclass(frozen=True)
class Formula:
    """An expression of Polars over columns that are Float64, Boolean or String, as their types say."""

    text: str
    value: pl.Expr
    type: Type
    columns: tuple[str, ...]


def formula(text: str, types: Mapping[str, Type | None], role: str) -> Formula:
    """Read a formula; `types` says of every column of the table what it holds, or None where it cannot be used."""
    return _Reader(text, types, role).formula()


def names(text: str, role: str) -> set[str]:
    """The columns that a formula asks for, whether or not they are there."""
    reader = _Reader(text, {}, role)
    nodes, calls = list(ast.walk(reader.tree)), {node.func for node in ast.walk(reader.tree) if isinstance(node, ast.Call)}
    for call in calls:
        if not isinstance(call, ast.Name) or call.id not in reader.functions():
            reader.fail("there is no function like this", call)
    quoted = {node.args[0].value for node in nodes if _called(node) == "col" and node.args and isinstance(node.args[0], ast.Constant)}
    return {node.id for node in nodes if isinstance(node, ast.Name) and node not in calls} | {
        name for name in quoted if isinstance(name, str)
    }


def _called(node: ast.AST) -> str | None:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


class _Reader:
    def __init__(self, text: str, types: Mapping[str, Type | None], role: str):
        self.text, self.types, self.role, self.used = text, types, role, dict[str, None]()
        if len(text) > LENGTH:
            self.fail(f"it has {len(text):,} characters, more than {LENGTH:,}")
        try:
            with warnings.catch_warnings(action="ignore"):  # of Python's on dubious code
                self.tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            at = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
            self.fail(f"it cannot be read{at} ({getattr(error, 'msg', error)})")
        if sum(1 for _ in ast.walk(self.tree)) > NODES:
            self.fail(f"it has more than {NODES} parts")
        if _depth(self.tree) > DEPTH:
            self.fail(f"it is nested more than {DEPTH} levels deep")
        if _weight(self.tree) > WEIGHT:
            self.fail("it repeats its parts too often, as min, max, where, in and chains of comparisons within one another do")

    def fail(self, why: str, node: ast.AST | None = None) -> NoReturn:
        part = ast.get_source_segment(self.text.strip(), node) if isinstance(node, ast.expr) else None
        where = f" (in {part!r})" if part and part != self.text.strip() else ""
        shown = self.text if len(self.text) <= 100 else self.text[:100] + " …"
        raise BadData(f"The formula {shown!r} for {self.role!r} cannot be used{where}: {why.rstrip('.')}. A formula has columns, numbers, "
                      "+ - * / % **, comparisons, and, or, not, and abs sqrt log exp min max clip where missing col.")  # fmt: skip

    def formula(self) -> Formula:
        value, type_ = self.read(self.tree)
        return Formula(self.text, value, type_, tuple(self.used))

    # nodes ----------------------------------------------------------------------------------------------------------

    def read(self, node: ast.AST) -> tuple[pl.Expr, Type]:
        match node:
            case ast.Constant(value=bool() as flag):
                return pl.lit(flag), "flag"
            case ast.Constant(value=int() | float() as number):
                return pl.lit(self.finite(number, node)), "number"
            case ast.Constant(value=str() as text):
                return pl.lit(text), "text"
            case ast.Name(id=name):
                return self.column(name, node)
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return ~self.flag(inner), "flag"
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -self.number(inner), "number"
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return self.number(inner), "number"
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                return ARITHMETIC[type(op)](self.number(left), self.number(right)), "number"
            case ast.BoolOp(op=ast.And() | ast.Or() as op, values=values):
                join = pl.Expr.and_ if isinstance(op, ast.And) else pl.Expr.or_
                return reduce(join, map(self.flag, values)), "flag"
            case ast.Compare(left=left, ops=ops, comparators=rights):
                pairs = zip([left, *rights], ops, rights)
                return reduce(pl.Expr.and_, [self.compare(a, op, b, node) for a, op, b in pairs]), "flag"
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in self.functions():
                return self.functions()[name](args, node)
            case ast.Call(func=ast.Name(id=name)):
                self.fail(f"there is no function {name!r} with such arguments", node)
        self.fail(f"a {type(node).__name__} has no place in it", node)

    def finite(self, number: int | float, node) -> float:
        try:
            value = float(number)
        except OverflowError:
            value = math.inf
        return value if math.isfinite(value) else self.fail("its number is too large", node)

    def column(self, name: str, node) -> tuple[pl.Expr, Type]:
        if name not in self.types:
            self.fail(f"there is no column {name!r}. {among(name, list(self.types), 'There are')}", node)
        if (type_ := self.types[name]) is None:
            self.fail(f"column {name!r} holds neither numbers nor flags nor words", node)
        self.used[name] = None
        return pl.col(name), type_

    def number(self, node) -> pl.Expr:
        value, type_ = self.read(node)
        if type_ == "text":
            self.fail("a number is needed where words stand", node)
        return value.cast(pl.Float64) if type_ == "flag" else value

    def flag(self, node) -> pl.Expr:
        value, type_ = self.read(node)
        if type_ == "text":
            self.fail('a condition is needed where words stand; compare them, as in status == "died"', node)
        return value if type_ == "flag" else value.fill_nan(None) != 0

    def compare(self, left, op, right, node) -> pl.Expr:
        if isinstance(op, (ast.In, ast.NotIn)):
            if not isinstance(right, (ast.Tuple, ast.List)) or not right.elts:
                self.fail('what follows `in` must be a list, as in ward in ("A", "B")', node)
            equal = reduce(pl.Expr.or_, [self.compare(left, ast.Eq(), one, node) for one in right.elts])
            return equal if isinstance(op, ast.In) else ~equal
        if type(op) not in COMPARISONS:
            self.fail(f"a comparison by {type(op).__name__} has no place in it", node)
        (a, one), (b, two) = self.read(left), self.read(right)
        if "text" in (one, two):
            if one != two:
                self.fail(
                    f"a {one} is compared with a {two}" + ("; the words of a column are put in quotes" if "flag" not in (one, two) else ""),
                    node,
                )
            return COMPARISONS[type(op)](a, b)
        a, b = (x.cast(pl.Float64).fill_nan(None) for x in (a, b))  # to Polars NaN is larger than all numbers
        return COMPARISONS[type(op)](a, b)

    # functions ------------------------------------------------------------------------------------------------------

    def functions(self) -> dict[str, Callable[[list, ast.AST], tuple[pl.Expr, Type]]]:
        return {"where": self.where, "missing": self.missing, "col": self.col, "min": self.least, "max": self.most, "clip": self.clip,
                **{name: self.plain(apply) for name, apply in PLAIN.items()}}  # fmt: skip

    def counted(self, args: list, node, least: int, most: int) -> None:
        if not least <= len(args) <= most:
            count = str(least) if least == most else f"{least} or more"
            self.fail(f"{_called(node)} takes {count} arguments, not {len(args)}", node)

    def plain(self, apply):
        def call(args, node):
            self.counted(args, node, 1, 1)
            return apply(self.number(args[0])), "number"

        return call

    def least(self, args, node):
        return self.extreme(pl.min_horizontal, args, node)

    def most(self, args, node):
        return self.extreme(pl.max_horizontal, args, node)

    def extreme(self, which, args, node):
        self.counted(args, node, 2, 20)
        values = [self.number(arg) for arg in args]
        return pl.when(pl.any_horizontal([value.is_null() for value in values])).then(None).otherwise(which(values)), "number"

    def clip(self, args, node):
        self.counted(args, node, 3, 3)
        return self.number(args[0]).clip(self.number(args[1]), self.number(args[2])), "number"

    def where(self, args, node):
        self.counted(args, node, 3, 3)
        condition, (a, one), (b, two) = self.flag(args[0]), self.read(args[1]), self.read(args[2])
        if "text" in (one, two) and one != two:
            self.fail("both sides of where must be of one kind", node)
        if one != two:
            a, b, one = a.cast(pl.Float64), b.cast(pl.Float64), "number"
        return pl.when(condition).then(a).when(~condition).then(b), one

    def missing(self, args, node):
        self.counted(args, node, 1, 1)
        return self.read(args[0])[0].is_null(), "flag"

    def col(self, args, node):
        self.counted(args, node, 1, 1)
        if not (isinstance(args[0], ast.Constant) and isinstance(args[0].value, str)):
            self.fail("col takes the name of a column in quotes", node)
        return self.column(args[0].value, node)


ARITHMETIC = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b, ast.Div: lambda a, b: a / b,
    ast.Mod: lambda a, b: a % b, ast.Pow: lambda a, b: a**b,
}  # fmt: skip
COMPARISONS = {ast.Lt: pl.Expr.lt, ast.LtE: pl.Expr.le, ast.Gt: pl.Expr.gt, ast.GtE: pl.Expr.ge, ast.Eq: pl.Expr.eq, ast.NotEq: pl.Expr.ne}
PLAIN = {"abs": pl.Expr.abs, "sqrt": pl.Expr.sqrt, "log": pl.Expr.log, "exp": pl.Expr.exp}


def _depth(tree: ast.AST) -> int:
    """Levels of a tree, without recursion: it may be deeper than Python's stack."""
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [inner for node in level for inner in ast.iter_child_nodes(node)]
    return depth


def _weight(node: ast.AST) -> int:
    """About how many parts the expression of Polars has, in which a part that is asked for twice stands twice."""
    match node:
        case ast.Compare(left=left, comparators=rights):
            sides = [_weight(side) for side in (left, *rights)]
            times = [len(b.elts) if isinstance(b, (ast.Tuple, ast.List)) else 1 for b in rights]
            return 1 + sum(a * n + b for a, n, b in zip(sides, times, sides[1:]))
        case ast.Call(func=ast.Name(id="min" | "max" | "where"), args=args):
            return 1 + 2 * sum(map(_weight, args))
    return 1 + sum(map(_weight, ast.iter_child_nodes(node)))
