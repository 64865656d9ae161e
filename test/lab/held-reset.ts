// A reset that takes as long as a test says: firmware's _RST for whatever is plugged into one port. Linux asks it before all other ways (drivers/pci/pci.c
// pci_reset_fn_methods: "acpi" comes right after a device's own), with the device's lock held as in any reset.

import { acpiName } from "./acpi-name.js";
import { heldResetPort, slotOf } from "./devices.js";

/** A byte with which test and firmware talk: the interrupt line of the host bridge, which has no interrupt. The port's own cannot be read during a reset. */
export const mailbox = { address: "0000:00:00.0", offset: 0x3c } as const;

export const Mail = {
  /** From the test: resets are over at once. */
  pass: 0x00,
  /** From the test: the next reset is held. */
  hold: 0xa0,
  /** From firmware: a reset is being held, until the test says something else. */
  held: 0xa2,
} as const;

/** Linux ends a loop of firmware's by force after 30 s. */
const longestHold = { steps: 500, stepMs: 50 } as const;

/** ASL, to stand inside the definition block. */
export function heldResetAsl(): string {
  const plugged = `\\_SB.PCI0.${acpiName(slotOf(heldResetPort))}.S00`;
  return `
    External (\\_SB.PCI0, DeviceObj)
    External (${plugged}, DeviceObj)
    Scope (\\_SB.PCI0)
    {
        Device (APMB)
        {
            Name (_ADR, Zero)
            OperationRegion (CONF, PCI_Config, ${mailbox.offset}, 1)
            Field (CONF, ByteAcc, NoLock, Preserve)
            {
                MAIL, 8
            }
        }
    }
    Scope (${plugged})
    {
        Method (_RST, 0, NotSerialized)
        {
            If (\\_SB.PCI0.APMB.MAIL != ${Mail.hold})
            {
                Return (Zero)
            }
            \\_SB.PCI0.APMB.MAIL = ${Mail.held}
            Local0 = ${longestHold.steps}
            While ((\\_SB.PCI0.APMB.MAIL == ${Mail.held}) && (Local0 > 0))
            {
                Sleep (${longestHold.stepMs})
                Local0--
            }
            Return (Zero)
        }
    }
`;
}
