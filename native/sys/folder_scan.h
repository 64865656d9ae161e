// The same few entries of many folders, read in one call: what a scan of sysfs is made of. Ten thousand
// devices are some 200,000 of these reads, and the way from JavaScript to the kernel and back costs more than
// each of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "sys/result.h"

namespace aperture {

enum class EntryKind {
  // Contents of a file, at most kLongestText bytes: else EFBIG.
  kText,
  // Target of a symbolic link.
  kLink,
  // Names in a folder, each ended by NUL, in the order of the file system; "." and ".." left out. More than
  // kLongestNames bytes: EFBIG.
  kNames,
  // Inode number of what the name itself is (a link, not what it points at): 8 bytes.
  kInode,
};

struct Entry {
  EntryKind kind;
  // In the folder; empty: the folder itself, which then may be a link.
  std::string name;
};

// sysfs gives an attribute in at most a page (fs/sysfs/file.c, sysfs_kf_seq_show); pages are up to 64 KiB on
// arm64, values are not.
constexpr size_t kLongestText = 4096;
// Some 70,000 PCI addresses.
constexpr size_t kLongestNames = 1024 * 1024;
// What one call gives at most; of entries for which there is no room any more only EMSGSIZE.
constexpr size_t kLongestAnswer = 16 * 1024 * 1024;

// Every entry of every folder, in the order asked for: 4 bytes, then as many bytes as they say; or minus the
// errno. Numbers are little-endian. Folders are paths below parent, each opened once for all of its entries:
// a device that another one replaces meanwhile is read as far as it goes, and never mixed with the other. A
// folder that cannot be opened gives its errno for each entry in it.
Result<std::vector<uint8_t>> ReadFolders(const std::string& parent, const std::vector<std::string>& folders,
                                         const std::vector<Entry>& entries);

}  // namespace aperture
