#include "sys/folder_scan.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "sys/unique_fd.h"

namespace aperture {

namespace {

// Of every open here. O_NONBLOCK: no attribute knows it, and a FIFO in a file's place is an empty file
// instead of a wait without end. O_NOCTTY: as for every path that is not ours.
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

// uapi: getdents64(2). The name ends with a NUL; record_length has padding in it.
struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t record_length;
  uint8_t type;
};
constexpr size_t kNameOffset = 19;
static_assert(offsetof(DirectoryEntry, record_length) == 16 && offsetof(DirectoryEntry, type) == 18);

class Answer {
 public:
  explicit Answer(size_t expected) { bytes_.reserve(expected); }

  bool IsFull() const { return bytes_.size() >= kLongestAnswer; }

  void Fail(int number) { Number(static_cast<uint32_t>(-number), 4); }

  void Bytes(const char* data, size_t length) {
    Number(length, 4);
    bytes_.insert(bytes_.end(), data, data + length);
  }

  void Inode(uint64_t inode) {
    Number(8, 4);
    Number(inode, 8);
  }

  std::vector<uint8_t> Take() { return std::move(bytes_); }

 private:
  void Number(uint64_t number, size_t width) {
    uint8_t little_endian[8];
    for (size_t i = 0; i < width; i++) little_endian[i] = static_cast<uint8_t>(number >> (8 * i));
    bytes_.insert(bytes_.end(), little_endian, little_endian + width);
  }

  std::vector<uint8_t> bytes_;
};

// -1 with errno, or the bytes read; more than there is room for is as much as there is room for.
ssize_t ReadSome(int fd, char* buffer, size_t room) {
  ssize_t got;
  do {
    got = read(fd, buffer, room);
  } while (got < 0 && errno == EINTR);
  return got;
}

void ReadText(int folder, const char* name, Answer* answer) {
  const UniqueFd file(openat(folder, name, kOpenFlags));
  if (!file.valid()) return answer->Fail(errno);
  char text[kLongestText + 1];
  size_t length = 0;
  // An attribute comes whole, and a short count is its end (fs/seq_file.c, seq_read_iter: it gives less than
  // asked for only when there is no more); but one that ends where a page does has to be asked.
  do {
    const ssize_t got = ReadSome(file.get(), text + length, sizeof(text) - length);
    if (got < 0) return answer->Fail(errno);
    if (got == 0) break;
    length += static_cast<size_t>(got);
  } while (length % kLongestText == 0 && length < sizeof(text));
  if (length > kLongestText) return answer->Fail(EFBIG);
  answer->Bytes(text, length);
}

void ReadLink(int folder, const char* name, Answer* answer) {
  char target[PATH_MAX];
  const ssize_t length = readlinkat(folder, name, target, sizeof(target));
  if (length < 0) return answer->Fail(errno);
  // The kernel makes no longer one, so this one was cut.
  if (static_cast<size_t>(length) == sizeof(target)) return answer->Fail(ENAMETOOLONG);
  answer->Bytes(target, static_cast<size_t>(length));
}

void ReadNames(int folder, const char* name, Answer* answer) {
  const UniqueFd directory(openat(folder, name, kOpenFlags | O_DIRECTORY));
  if (!directory.valid()) return answer->Fail(errno);
  std::string names;
  alignas(DirectoryEntry) char records[4096];
  for (;;) {
    const long got = syscall(SYS_getdents64, directory.get(), records, sizeof(records));
    if (got < 0) return answer->Fail(errno);
    if (got == 0) break;
    for (size_t at = 0; at < static_cast<size_t>(got);) {
      DirectoryEntry entry;
      memcpy(&entry, records + at, sizeof(entry));
      const char* const found = records + at + kNameOffset;
      if (strcmp(found, ".") != 0 && strcmp(found, "..") != 0) names.append(found, strlen(found) + 1);
      at += entry.record_length;
    }
    if (names.size() > kLongestNames) return answer->Fail(EFBIG);
  }
  answer->Bytes(names.data(), names.size());
}

void ReadInode(int folder, const char* name, Answer* answer) {
  struct stat status;
  if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0) return answer->Fail(errno);
  answer->Inode(status.st_ino);
}

void ReadEntry(EntryKind kind, int folder, const char* name, Answer* answer) {
  if (answer->IsFull()) return answer->Fail(EMSGSIZE);
  switch (kind) {
    case EntryKind::kText:
      return ReadText(folder, name, answer);
    case EntryKind::kLink:
      return ReadLink(folder, name, answer);
    case EntryKind::kNames:
      return ReadNames(folder, name, answer);
    case EntryKind::kInode:
      return ReadInode(folder, name, answer);
  }
}

// A folder, opened when the first of its entries is asked for.
class Folder {
 public:
  Folder(int parent, const char* path) : parent_(parent), path_(path) {}

  // errno, or 0.
  int Open() {
    if (fd_.valid() || failed_ != 0) return failed_;
    fd_ = UniqueFd(openat(parent_, path_, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!fd_.valid()) failed_ = errno;
    return failed_;
  }

  int fd() const { return fd_.get(); }

 private:
  const int parent_;
  const char* const path_;
  UniqueFd fd_;
  int failed_ = 0;
};

}  // namespace

Result<std::vector<uint8_t>> ReadFolders(const std::string& parent, const std::vector<std::string>& folders,
                                         const std::vector<Entry>& entries) {
  Folder above(AT_FDCWD, parent.c_str());
  const int failed = above.Open();
  Answer answer(folders.size() * entries.size() * 16);
  for (const std::string& path : folders) {
    Folder folder(above.fd(), path.c_str());
    for (const Entry& entry : entries) {
      if (failed != 0) {
        answer.Fail(failed);
      } else if (entry.name.empty()) {
        ReadEntry(entry.kind, above.fd(), path.c_str(), &answer);
      } else if (folder.Open() != 0) {
        answer.Fail(folder.Open());
      } else {
        ReadEntry(entry.kind, folder.fd(), entry.name.c_str(), &answer);
      }
    }
  }
  return answer.Take();
}

}  // namespace aperture
