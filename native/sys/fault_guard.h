// Turns the SIGBUS or SIGSEGV of one bounded copy into a return value. Memory of a device can vanish under a
// mapping (reset, low power, memory enable off: SIGBUS; poison: SIGBUS with BUS_MCEERR_AR), and only the copy
// itself can find out. A fault outside the guarded range, or on a thread without a guard, goes to whoever
// handled it before us: V8 uses SIGSEGV for WebAssembly.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aperture {

// Idempotent and thread-safe. 0 or errno.
int InstallFaultHandlers();

// Copies between ordinary memory and [base, base + length) of a mapping that may fault. Every access to the
// mapping is naturally aligned and as wide (8, 4, 2, 1 bytes) as alignment and rest allow: a device may do
// something else, or nothing, for four byte-wide loads than for one of 32 bits. Returns length, or the offset
// of the byte at which the access faulted; what was copied before it stays copied.
size_t CopyFromMapping(const volatile uint8_t* base, uint8_t* out, size_t length);
size_t CopyToMapping(volatile uint8_t* base, const uint8_t* in, size_t length);

// The width of the next access: the widest of 8, 4, 2, 1 that `address` is a multiple of and `rest` has room
// for.
size_t AccessWidth(uintptr_t address, size_t rest);

}  // namespace aperture
