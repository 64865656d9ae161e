// Socket options newer than the libc headers of the oldest system we build on. The numbers are those of
// asm-generic/socket.h, which every architecture that Node runs on uses, except the four that renumber
// SOL_SOCKET (alpha, mips, parisc, sparc): there the build stops here rather than set another option.
#pragma once

#include <sys/socket.h>

#if defined(__alpha__) || defined(__mips__) || defined(__hppa__) || defined(__sparc__)
#error "this architecture numbers socket options differently"
#endif

// uapi/asm-generic/socket.h, Linux 4.13
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif
// uapi/asm-generic/socket.h and linux/socket.h, Linux 6.5
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

// net/scm.h: the most descriptors that one message can carry, since Linux 2.6.38
constexpr int kScmMaxDescriptors = 253;
