"""Every failure that a caller can see, with the gRPC code and the reason it is told by.

GatewayError
├── InvalidField, MalformedRequest, InvalidImage       the caller's request is wrong
├── UnknownMethod                                      so is the path it was sent to
├── UnknownModel, UrlForbidden
├── UnknownDigest                                      an image must be sent again
├── UnsupportedByModel, CostAboveLimit                 no model can or may do it
├── Unauthenticated                                    the caller is nobody known
├── Forbidden                                          who it is may not do this
├── QuotaExceeded
│   └── BudgetExceeded, RateLimited                    the caller has had its share
├── StoreUnavailable                                   what was spent cannot be looked at
├── DeadlineTooShort, DeadlineExceeded                 time
├── Overloaded, Draining                               this gateway cannot take it now
├── BackendUnavailable, UpstreamRateLimited            the model cannot take it now
├── UpstreamAuth, UpstreamAccount                      our own account at the provider
├── Refused, UnusableAnswer                            the model answered, but not usably
├── TruncatedAnswer                                    or not to the end
│   └── BrokenOff                                      by no wish of the caller's
└── InternalError                                      a bug of ours
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from grpc import StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.usage import Usage

DOMAIN = "visiongateway"


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field of a request: its path, such as `labels[3]`, and what is wrong with it."""

    field: str
    description: str


class GatewayError(Exception):
    """Base of every failure that reaches a caller; its message is for people and leaks nothing internal."""

    code: ClassVar[StatusCode]
    reason: ClassVar[str]
    # Whether another model might well answer the same call.
    elsewhere: bool = False

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        usage: Usage | None = None,
        service_tier: str | None = None,
        elsewhere: bool | None = None,
    ) -> None:
        """*usage* and *service_tier* tell what the failed attempt was billed, if it was."""
        super().__init__(message)
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.service_tier = service_tier
        # Whether that was counted here, not told by the provider; and what that calls the model, where it told.
        self.estimated = False
        self.provider_model = ""
        if elsewhere is not None:
            self.elsewhere = elsewhere


class InvalidField(GatewayError):
    """One or more fields are out of their range; all of them are listed."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "INVALID_FIELD"

    def __init__(self, violations: Sequence[Violation]) -> None:
        """Lists *violations*, at least one."""
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = tuple(violations)


class MalformedRequest(GatewayError):
    """The bytes of the request are not the message that the RPC takes."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "MALFORMED_REQUEST"


class InvalidImage(GatewayError):
    """An image is missing, too big, of a forbidden format, or cannot be decoded; metadata `limit` names which."""

    code = StatusCode.INVALID_ARGUMENT
    reason = "INVALID_IMAGE"

    def __init__(self, message: str, *, limit: str, field: str = "image", others: Sequence[Violation] = ()) -> None:
        """*limit* is one of a closed set, such as `format` or `pixels`; *field* is the path of the image.

        *others* are further images that hit the same limit.
        """
        super().__init__(message, metadata={"limit": limit, "field": field})
        self.limit = limit
        self.field = field
        self._others = tuple(others)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """The image's own field as a violation, and those of the others."""
        return (Violation(self.field, str(self)), *self._others)


class UnknownMethod(GatewayError):
    """The service has no such RPC."""

    code = StatusCode.UNIMPLEMENTED
    reason = "UNKNOWN_METHOD"


class UnknownModel(GatewayError):
    """The caller named a model or route that is not configured."""

    code = StatusCode.NOT_FOUND
    reason = "UNKNOWN_MODEL"


class UnknownDigest(GatewayError):
    """The caller named an image that is not held here, or no longer; metadata `field` says which. Send its bytes."""

    code = StatusCode.NOT_FOUND
    reason = "UNKNOWN_DIGEST"


class UrlForbidden(GatewayError):
    """The operator does not allow the gateway to fetch this address."""

    code = StatusCode.PERMISSION_DENIED
    reason = "URL_FORBIDDEN"


class UnsupportedByModel(GatewayError):
    """The model cannot do what was asked, and says so rather than guess."""

    code = StatusCode.FAILED_PRECONDITION
    reason = "UNSUPPORTED_BY_MODEL"
    elsewhere = True


class CostAboveLimit(GatewayError):
    """The model's worst case costs more than the caller allows."""

    code = StatusCode.FAILED_PRECONDITION
    reason = "COST_ABOVE_LIMIT"
    elsewhere = True


class Unauthenticated(GatewayError):
    """The call has a wrong credential, or none where it needs one; metadata `cause` says which of a closed set."""

    code = StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"

    def __init__(self, message: str, *, cause: str) -> None:
        """*cause* is one of a closed set, such as `unknown_key`."""
        super().__init__(message, metadata={"cause": cause})
        self.cause = cause


class Forbidden(GatewayError):
    """The principal may not do this; metadata `rule` names the setting of its that says so."""

    code = StatusCode.PERMISSION_DENIED
    reason = "FORBIDDEN"


class QuotaExceeded(GatewayError):
    """The principal has had its share for now; *subject* names it."""

    code = StatusCode.RESOURCE_EXHAUSTED

    def __init__(
        self, message: str, *, subject: str, retry_after_s: float, metadata: Mapping[str, str] | None = None
    ) -> None:
        """*message* names the limit that was hit, and when there is room again."""
        super().__init__(message, metadata=metadata, retry_after_s=retry_after_s)
        self.subject = subject


class BudgetExceeded(QuotaExceeded):
    """The call may cost more than is left of the principal's budget; a free model may still answer."""

    reason = "BUDGET_EXCEEDED"
    elsewhere = True


class RateLimited(QuotaExceeded):
    """The principal makes more calls a second, or at once, than it may."""

    reason = "RATE_LIMITED"


class StoreUnavailable(GatewayError):
    """The store of the budgets is down, and nothing is spent unseen; a free model may still answer."""

    code = StatusCode.UNAVAILABLE
    reason = "STORE_UNAVAILABLE"
    elsewhere = True


class DeadlineTooShort(GatewayError):
    """Too little time is left to start; nothing was asked."""

    code = StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_TOO_SHORT"


class DeadlineExceeded(GatewayError):
    """The caller's time is up."""

    code = StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE"


class Overloaded(GatewayError):
    """A limit of this gateway is reached; another replica, or a later try, may work."""

    code = StatusCode.UNAVAILABLE
    reason = "OVERLOADED"
    elsewhere = True


class Draining(GatewayError):
    """This gateway is shutting down; another replica takes the call."""

    code = StatusCode.UNAVAILABLE
    reason = "DRAINING"


class BackendUnavailable(GatewayError):
    """The model is down, hung or not ready."""

    code = StatusCode.UNAVAILABLE
    reason = "BACKEND_UNAVAILABLE"
    elsewhere = True


class UpstreamRateLimited(GatewayError):
    """The provider's rate limit for this gateway, not the caller's, is reached."""

    code = StatusCode.UNAVAILABLE
    reason = "UPSTREAM_RATE_LIMITED"
    elsewhere = True


class UpstreamAuth(GatewayError):
    """The provider refused this gateway's credentials; the operator must act."""

    code = StatusCode.INTERNAL
    reason = "UPSTREAM_AUTH"
    elsewhere = True


class UpstreamAccount(GatewayError):
    """This gateway's account at the provider has no credit; the operator must act."""

    code = StatusCode.FAILED_PRECONDITION
    reason = "UPSTREAM_ACCOUNT"
    elsewhere = True


class Refused(GatewayError):
    """The model, or the provider's content filter, refused; nobody routes around that."""

    code = StatusCode.FAILED_PRECONDITION
    reason = "REFUSED"


class UnusableAnswer(GatewayError):
    """The model's answer does not have the form that the task needs, also after repair."""

    code = StatusCode.INTERNAL
    reason = "UNUSABLE_ANSWER"
    elsewhere = True


class TruncatedAnswer(GatewayError):
    """The answer was cut off: by the token limit, or by a stream that broke."""

    code = StatusCode.DATA_LOSS
    reason = "TRUNCATED_ANSWER"


class BrokenOff(TruncatedAnswer):
    """By a stream that broke, which is the model's failing, where the limit of tokens is the caller's wish."""

    elsewhere = True


class InternalError(GatewayError):
    """A bug of ours. The message and the metadata have nothing but an id, under which the log tells more."""

    code = StatusCode.INTERNAL
    reason = "INTERNAL"
