"""What must fit between the tables of the settings; a line for each problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from gateway.settings.door import JwtSettings, PrincipalSettings, TlsSettings
    from gateway.settings.routes import RouteSettings

_NOBODIES = {
    "anonymous": "whoever has a credential is not anonymous",
    "shadow": "nobody calls as the gateway's own shadow calls do",
}


def of_routes(models: Collection[str], routes: Mapping[str, RouteSettings]) -> Iterator[str]:
    """Routes name models that are there; *models* are their names."""
    if not models:
        yield "no model is configured; add a table such as [models.gemma-4-26b-a4b]"
        return
    known = ", ".join(models)
    for name, route in routes.items():
        if not route.models:
            yield f"routes.{name} names no model"
    for name, route in routes.items():
        for model in route.named:
            if model not in models:
                yield f"routes.{name} names {model!r}, which is not among the models: {known}"


def of_credentials(
    principals: Mapping[str, PrincipalSettings], jwt: JwtSettings | None, tls: TlsSettings | None
) -> Iterator[str]:
    """Credentials tell principals apart, and can be checked."""
    given = [each for principal in principals.values() for each in principal.credentials]
    for setting in sorted({setting for setting, each in given if given.count((setting, each)) > 1}):
        yield f"principals: the same {setting} is there twice"
    for name, why in _NOBODIES.items():
        if name in principals:
            for setting in dict.fromkeys(setting for setting, _ in principals[name].credentials):
                yield f"principals.{name}.{setting}: {why}"
    if any(setting == "subjects" for setting, _ in given) and jwt is None:
        yield "principals: subjects are of no use without [jwt]"
    if any(setting == "san" for setting, _ in given) and not (tls and tls.client_ca):
        yield "principals: san is of no use without a client_ca in [server.tls]"


def of_rights(
    principals: Mapping[str, PrincipalSettings], models: Collection[str], routes: Collection[str]
) -> Iterator[str]:
    """Principals may use what is there; *models* and *routes* are names."""
    known = {"models": models, "routes": routes}
    for name, principal in principals.items():
        for setting, there in known.items():
            for each in getattr(principal, setting) or ():
                if each not in there:
                    yield f"principals.{name}.{setting} names {each!r}, which is not there"


def of_readers(readers: Collection[str], principals: Collection[str]) -> Iterator[str]:
    """Whoever may read the metrics is there."""
    for each in readers:
        if each not in principals:
            yield f"server.metrics_principals names {each!r}, which is not there"
