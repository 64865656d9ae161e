// Every test file that runs inside a guest, in this order, in one process: starting Node takes seconds under emulation.

import "./boot.test.js";
import "./facts.test.js";
import "./inventory.test.js";
import "./contract.test.js";
import "./lease.test.js";
import "./delegation.test.js";
import "./c-client.test.js";
import "./drivers.test.js";
import "./vmm.test.js";
import "./start.test.js";
import "./nested.test.js";
import "./discovery.test.js";
