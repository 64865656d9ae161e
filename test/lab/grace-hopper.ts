// The fake Grace Hopper: what makes NVIDIA's unmodified nvgrace_gpu_vfio_pci accept a bochs-display.
//
// The driver does not look at ids. It needs (1) two firmware properties that say where the GPU's memory lies in the host's address space,
// (2) memory there that Linux leaves alone, and (3) two words of BAR 0 that say the chip is ready (bind-devices.sh writes those).

import { acpiName } from "./acpi-name.js";
import { graceHopper, slotOf } from "./devices.js";

/**
 * All of it must be RAM of the guest: the driver's ioremap of a range that touches anything with another memory type, such as the
 * ACPI tables in the last 128 KiB below 2 GiB, fails, and every read of the region ends in ENOMEM. With 2.75 GiB of RAM or more Q35 puts
 * 2 GiB below 4 GiB and the rest above, where this cannot be: QEMU's DSDT has revision 1, which cuts ACPI integers to 32 bits. Both ends
 * lie on 128 MiB, the size of a memory section, so that the kernel has no struct page for any of it, as on the real machine.
 *
 * From this size the driver makes: region 4 (usemem) 512 MiB in a 1 GiB region, region 2 (resmem) 1.25 GiB in a 2 GiB region.
 */
export const memory = { base: 0x0800_0000, size: 0x7000_0000 } as const;

/** The guest's RAM, of which Linux keeps what `memory` leaves. */
export const guestRam = "4G";

/** Tells Linux that the range is no RAM of its own. */
export const kernelArgument = `memmap=${memory.size}$${memory.base}`;

/** ASL, to stand inside the definition block. */
export function graceHopperAsl(): string {
  const name = `\\_SB.PCI0.${acpiName(slotOf(graceHopper))}`;
  // The UUID says "a list of name and value pairs" (ACPI specification, _DSD device properties).
  return `
    External (${name}, DeviceObj)
    Scope (${name})
    {
        Name (_DSD, Package ()
        {
            ToUUID ("daffd814-6eba-4d8c-8a91-bc9bbf4aa301"),
            Package ()
            {
                Package () { "nvidia,gpu-mem-base-pa", ${memory.base} },
                Package () { "nvidia,gpu-mem-size", ${memory.size} }
            }
        })
    }
`;
}
