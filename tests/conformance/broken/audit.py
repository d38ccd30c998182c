"""Queues with a defect in ``queue.audit``."""

from typing import Any

from fang_core.conformance import AuditSuite
from fang_core.monitoring.audit import AuditCall, beginning
from tests.conformance.broken.base import OtherMethods

# The audit ------------------------------------------------------------------------------------------------------------


class ForgetsDetails(OtherMethods):
    caught_by = (AuditSuite.test_a_change_is_written_before_it_is_made_and_its_result_after,)

    async def _do_audit(self, call: AuditCall[Any]) -> Any:
        if call.verb == "begin_audit":
            call = call._replace(args=(call.args[0]._replace(details=None),))
        return await self.whole._do_audit(call)


class WritesResultsAgain(OtherMethods):
    caught_by = (AuditSuite.test_a_result_is_written_once,)

    async def _do_audit(self, call: AuditCall[Any]) -> Any:
        done = await self.whole._do_audit(call)
        return True if call.verb == "end_audit" else done


class ListsTheFirstPageAlways(OtherMethods):
    caught_by = (AuditSuite.test_the_latest_come_first_page_by_page,)

    async def _do_audit(self, call: AuditCall[Any]) -> Any:
        if call.verb == "list_audit":
            call = call._replace(args=(call.args[0], None))
        return await self.whole._do_audit(call)


class CutsResults(OtherMethods):
    caught_by = (AuditSuite.test_texts_that_no_database_holds_are_cleaned_and_cut,)

    async def _do_audit(self, call: AuditCall[Any]) -> Any:
        if call.verb == "end_audit":
            call = call._replace(args=(call.args[0], call.args[1][:100]))
        return await self.whole._do_audit(call)


class WritesWhatWasRefused(OtherMethods):
    caught_by = (AuditSuite.test_arguments_that_cannot_be_used_are_refused,)

    async def _do_audit(self, call: AuditCall[Any]) -> Any:
        if call.verb == "list_audit":
            await self.whole._do_audit(beginning("ada", "pause", "exports", None))
        return await self.whole._do_audit(call)
