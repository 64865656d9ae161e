// Cloud Hypervisor's API socket as its sources have it (vmm/src/api/http, micro-http): a server of ours that checks bytes and descriptors. The program itself is not to be had here.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { native } from "../../../src/native.js";
import { CloudHypervisor } from "../../../src/push/index.js";
import { descriptorsOf } from "../../harness/descriptors.js";
import { answer, FakeCloudHypervisor, PING } from "../../harness/fake-cloud-hypervisor.js";
import { until } from "../../harness/until.js";
import { TestLease } from "./test-lease.js";

const GPU = "0000:01:00.0";
const NIC = "0000:02:00.0";
describe("[real sockets] plugging into Cloud Hypervisor", () => {
  let before: readonly string[];
  let api: FakeCloudHypervisor;
  let lease: TestLease;
  let vmm: CloudHypervisor | null;
  beforeEach(() => {
    before = descriptorsOf(process.pid);
    api = new FakeCloudHypervisor();
    lease = new TestLease([GPU, NIC]);
    vmm = null;
  });
  afterEach(async () => {
    vmm?.close();
    api.stop();
    await lease.closeDescriptors();
    await until(
      "descriptors of this process",
      () => descriptorsOf(process.pid),
      (now) => now.join() === before.join(),
    );
  });

  async function connect(answerMs = 5_000): Promise<CloudHypervisor> {
    vmm = await CloudHypervisor.connect({ socket: api.path, answerMs });
    return vmm;
  }

  it("sends one request a device, with its one descriptor and not the iommufd, and closes its own copies", async () => {
    const plugged = await (await connect()).plug(lease, { ids: ["gpu0", "nic0"] });
    assert.deepEqual(api.requests, [
      { line: "GET /api/v1/vmm.ping HTTP/1.1", body: "", files: [] },
      { line: "PUT /api/v1/vm.add-device HTTP/1.1", body: '{"id":"gpu0"}', files: [lease.files[GPU]] },
      { line: "PUT /api/v1/vm.add-device HTTP/1.1", body: '{"id":"nic0"}', files: [lease.files[NIC]] },
    ]);
    assert.equal(lease.closed, 1);
    assert.deepEqual(plugged.devices, [
      { address: GPU, id: "gpu0" },
      { address: NIC, id: "nic0" },
    ]);
  });

  it("takes them out, and waits until each has left the device tree", async () => {
    const plugged = await (await connect()).plug(lease);
    api.lingering = 2;
    await plugged.unplug();
    assert.deepEqual(api.holds, {});
    const lines = api.requests.slice(3).map(({ line, body }) => `${line.split(" ")[1]?.slice(8)} ${body}`.trim());
    const out = (id: string): string[] => [`vm.remove-device {"id":"${id}"}`, "vm.info", "vm.info", "vm.info"];
    assert.deepEqual(lines, [...out("vfio-0000-02-00-0"), ...out("vfio-0000-01-00-0")]);
  });

  it("a guest that does not let go in time", async () => {
    const plugged = await (await connect()).plug(lease);
    api.lingering = 1000;
    await assert.rejects(plugged.unplug({ timeoutMs: 50 }), { reason: "GUEST_SILENT" });
  });

  it("what somebody else has taken out is out", async () => {
    const plugged = await (await connect()).plug(lease);
    api.answers.set("vm.remove-device", answer(404, ["Error from API"]));
    for (const fd of api.inside.values()) native.closeDescriptor(fd);
    api.inside.clear();
    await plugged.unplug();
  });

  it("the second refused: the first is taken out, and the VMM's words are told", async () => {
    const connected = await connect();
    const words = ["Error from API", "The device could not be added to the VM", "VFIO device `fd=` requires platform `iommufd_fd=<fd>`"];
    let adds = 0;
    const get = api.answers.get.bind(api.answers);
    api.answers.get = (command) => (command === "vm.add-device" && ++adds === 2 ? answer(400, words) : get(command));
    await assert.rejects(connected.plug(lease), (error: Error & { reason?: string; next?: string }) => {
      assert.equal(error.reason, "VMM_REFUSED");
      assert.match(error.message, /refused vm\.add-device with 400: Error from API: The device could not be added to the VM: VFIO device/);
      assert.match(error.next ?? "", /--platform iommufd_fd=N/);
      return true;
    });
    assert.deepEqual(api.holds, {});
  });

  it("says that the VMM has ended", async () => {
    const plugged = await (await connect()).plug(lease);
    api.exit();
    assert.equal(await plugged.gone, "VMM_GONE");
    await assert.rejects(plugged.unplug(), { reason: "VMM_GONE" });
  });

  for (const [what, odd, reason] of [
    ["an older one", answer(200, { ...PING, version: "52.1.0" }), "VMM_TOO_OLD"],
    ["no version", answer(200, {}), "VMM_PROTOCOL"],
    ["another protocol", '{"QMP": {}}\r\n', "VMM_PROTOCOL"],
    ["two answers to one question", answer(200, PING) + answer(200, PING), "VMM_PROTOCOL"],
    ["an error", answer(500, ["Internal Server Error"]), "VMM_REFUSED"],
    ["half an answer", "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n{", "VMM_SILENT"],
    ["silence", "", "VMM_SILENT"],
  ] as const) {
    it(`${what} instead of an answer to vmm.ping`, async () => {
      api.answers.set("vmm.ping", odd);
      await assert.rejects(async () => (await connect(200)).plug(lease), { reason });
      await until(
        "the connection's end",
        () => api.closed,
        (count) => count === 1,
      );
    });
  }
});
