"""What each process of a supervisor imports: the pool of ``fang worker``, under the orders that it was given."""

import json
import os
import resource

from tests.faults.worker import ORDERS, Given, make_pool

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
pool = make_pool(Given(**json.loads(os.environ[ORDERS])))
