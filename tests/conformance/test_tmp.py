from fang_core.conformance import ConformanceSuite


class TestAll(ConformanceSuite):
    pass
