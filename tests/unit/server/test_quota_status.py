from __future__ import annotations

import pytest
from google.rpc import error_details_pb2

from gateway.errors import BudgetExceeded, RateLimited
from gateway.server import status


@pytest.mark.parametrize(
    ("retry_after_s", "pushback"), [(1.0, "1000"), (60.0, "60000"), (60.5, "-1"), (86_400.0, "-1")]
)
def test_a_caller_that_has_to_wait_long_is_told_not_to_try_by_itself(retry_after_s, pushback):
    error = BudgetExceeded("spent", subject="principal:anna", retry_after_s=retry_after_s)

    told = status.of(error)
    retry = error_details_pb2.RetryInfo()

    assert dict(status.trailers(error, told))["grpc-retry-pushback-ms"] == pushback
    assert [detail.Unpack(retry) for detail in told.details].count(True) == 1
    assert retry.retry_delay.ToTimedelta().total_seconds() == retry_after_s


def test_a_quota_names_whose_it_is_and_what_was_hit():
    error = RateLimited("at most 3 calls a second are allowed", subject="principal:anna", retry_after_s=1.0)
    quota = error_details_pb2.QuotaFailure()

    assert any(detail.Unpack(quota) for detail in status.of(error).details)
    assert [(each.subject, each.description) for each in quota.violations] == [("principal:anna", str(error))]
