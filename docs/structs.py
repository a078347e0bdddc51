"""Lets the API page show a struct as it is made, by its fields with types and defaults, and an enumeration's values."""

from __future__ import annotations

from typing import Any

from griffe import Attribute, Class, Extension, Function, Parameter, ParameterKind, Parameters


class Structs(Extension):
    """Gives each ``msgspec.Struct`` the constructor that it gets when it is run, each ``StrEnum`` a list of values."""

    def on_class_members(self, *, cls: Class, **_: Any) -> None:
        """Called for each class that is read."""
        bases = {str(base) for base in cls.bases}
        values = [str(each.value) for each in cls.members.values() if isinstance(each, Attribute) and each.value]
        if "StrEnum" in bases and cls.docstring is not None:
            cls.docstring.value += f"\n\nValues: {', '.join(f'`{value}`' for value in values)}."
        if "Struct" not in bases:
            return
        keyword = "kw_only" in cls.keywords
        kind = ParameterKind.keyword_only if keyword else ParameterKind.positional_or_keyword
        fields = [
            Parameter(name, annotation=member.annotation, default=member.value, kind=kind)
            for name, member in cls.members.items()
            if isinstance(member, Attribute) and member.annotation is not None and not name.startswith("_")
        ]
        constructor = Function("__init__", parameters=Parameters(Parameter("self"), *fields))
        constructor.returns = "None"
        cls.set_member("__init__", constructor)
