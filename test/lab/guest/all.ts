// Every test file that runs inside a guest, in this order, in one process: starting Node takes seconds under emulation.

import "./boot.test.js";
import "./lease.test.js";
import "./start.test.js";
