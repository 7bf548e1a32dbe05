"""Sphinx roles of docstrings (:class:`X`) as the site's cross references; mkdocstrings loads it."""

import re

import griffe

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([\w.]+)`")


class Roles(griffe.Extension):
    """A role becomes a link where the site has the object, else its name as code."""

    def on_package(self, *, pkg, loader, **kwargs):
        """Go through the docstrings of a package that has been read."""
        self._visit(pkg, loader.modules_collection)

    def _visit(self, obj, collection):
        if obj.docstring:
            obj.docstring.value = ROLE.sub(
                lambda match: reference(match[1], obj, collection), obj.docstring.value
            )
        for member in obj.members.values():
            if not member.is_alias:
                self._visit(member, collection)


def reference(name: str, obj, collection) -> str:
    """Of ``name`` as seen from ``obj``: mkdocs-autorefs' own tag, which may lead nowhere."""
    first, _, rest = name.partition(".")
    try:
        path = name if first == "libra_umop" else obj.resolve(first) + (rest and f".{rest}")
        path = collection[path].canonical_path
    except Exception:  # a name of another library, or of a parent class there
        return f"`{name}`"
    return f'<autoref identifier="{path}" optional><code>{name}</code></autoref>'
