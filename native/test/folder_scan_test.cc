// [real kernel] Entries of folders, in one call: files of a temporary folder, and of sysfs and /proc.
#include "sys/folder_scan.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "check.h"

namespace aperture {
namespace {

// One entry of an answer.
struct Got {
  int error = 0;
  std::string bytes;
  bool operator==(const std::string& text) const { return error == 0 && bytes == text; }
  bool Failed(int number) const { return error == number && bytes.empty(); }
};

uint64_t Number(const uint8_t* bytes, size_t width) {
  uint64_t number = 0;
  for (size_t i = 0; i < width; i++) number |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return number;
}

// Walks to the end of the answer: one that says more or less than it has fails the test.
std::vector<Got> Read(const std::string& parent, const std::vector<std::string>& folders,
                      const std::vector<Entry>& entries) {
  const Result<std::vector<uint8_t>> answer = ReadFolders(parent, folders, entries);
  std::vector<Got> all;
  if (!CHECK(answer.ok())) return all;
  const std::vector<uint8_t>& bytes = answer.value();
  for (size_t at = 0; at < bytes.size();) {
    if (!CHECK(at + 4 <= bytes.size())) break;
    const auto length = static_cast<int32_t>(Number(bytes.data() + at, 4));
    at += 4;
    Got got;
    if (length < 0) {
      got.error = -length;
    } else {
      if (!CHECK(at + static_cast<size_t>(length) <= bytes.size())) break;
      got.bytes.assign(bytes.begin() + static_cast<ptrdiff_t>(at),
                       bytes.begin() + static_cast<ptrdiff_t>(at) + length);
      at += static_cast<size_t>(length);
    }
    all.push_back(got);
  }
  CHECK(all.size() == folders.size() * entries.size());
  all.resize(folders.size() * entries.size());
  return all;
}

void Write(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::vector<std::string> Sorted(const std::string& names) {
  std::vector<std::string> all;
  for (size_t at = 0; at < names.size(); at = names.find('\0', at) + 1) all.push_back(names.c_str() + at);
  std::sort(all.begin(), all.end());
  return all;
}

uint64_t InodeOf(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

const Entry kText = {EntryKind::kText, "file"};

TEST(folders_every_kind_of_every_folder_in_order) {
  const check::Folder root;
  for (const char* name : {"a", "b"}) {
    CHECK(mkdir((root / name).c_str(), 0755) == 0 && mkdir((root / name + "/list").c_str(), 0755) == 0);
    Write(root / name + "/file", std::string("text of ") + name + "\n");
    CHECK(symlink("../x/vfio-pci", (root / name + "/driver").c_str()) == 0);
  }
  Write(root / "b/list/vfio3", "");
  Write(root / "b/list/.hidden", "");
  const std::vector<Got> got = Read(root.path(), {"b", "a"},
                                    {kText,
                                     {EntryKind::kLink, "driver"},
                                     {EntryKind::kInode, "driver"},
                                     {EntryKind::kNames, "list"},
                                     {EntryKind::kInode, ""}});
  CHECK(got[0] == "text of b\n" && got[5] == "text of a\n");
  CHECK(got[1] == "../x/vfio-pci" && got[6] == "../x/vfio-pci");
  for (const size_t i : {2, 4, 7, 9}) CHECK(got[i].error == 0 && got[i].bytes.size() == 8);
  const auto inode = [&](size_t i) {
    return Number(reinterpret_cast<const uint8_t*>(got[i].bytes.data()), got[i].bytes.size());
  };
  CHECK(inode(2) == InodeOf(root / "b/driver") && inode(7) == InodeOf(root / "a/driver"));
  CHECK(inode(4) == InodeOf(root / "b") && inode(9) == InodeOf(root / "a"));
  CHECK(Sorted(got[3].bytes) == (std::vector<std::string>{".hidden", "vfio3"}));
  CHECK(got[8] == "");
}

TEST(folders_of_links_are_read_where_they_point_and_told_as_links) {
  const check::Folder root;
  CHECK(mkdir((root / "real").c_str(), 0755) == 0 && symlink("real", (root / "link").c_str()) == 0);
  Write(root / "real/file", "x");
  const std::vector<Got> got =
      Read(root.path(), {"link"},
           {kText, {EntryKind::kLink, ""}, {EntryKind::kInode, ""}, {EntryKind::kNames, ""}});
  CHECK(got[0] == "x" && got[1] == "real");
  CHECK(Number(reinterpret_cast<const uint8_t*>(got[2].bytes.data()), 8) == InodeOf(root / "link"));
  CHECK(Sorted(got[3].bytes) == std::vector<std::string>{"file"});
}

TEST(folders_each_failure_is_that_entrys_own) {
  const check::Folder root;
  CHECK(mkdir((root / "good").c_str(), 0755) == 0 && mkdir((root / "good/folder").c_str(), 0755) == 0);
  Write(root / "good/file", "good");
  Write(root / "plain", "");
  CHECK(symlink("loop", (root / "loop").c_str()) == 0 && symlink("gone", (root / "dangling").c_str()) == 0);
  CHECK(symlink("self", (root / "good/self").c_str()) == 0);
  const std::vector<Entry> entries = {{EntryKind::kText, "folder"}, {EntryKind::kText, "self"},
                                      {EntryKind::kText, "none"},   {EntryKind::kLink, "file"},
                                      {EntryKind::kNames, "file"},  {EntryKind::kInode, "none"},
                                      {EntryKind::kLink, "self"},   kText};
  const std::vector<Got> got = Read(root.path(), {"none", "plain", "loop", "dangling", "good"}, entries);
  const int folders[] = {ENOENT, ENOTDIR, ELOOP, ENOENT};
  for (size_t i = 0; i < 4; i++)
    for (size_t entry = 0; entry < entries.size(); entry++)
      CHECK(got[i * entries.size() + entry].Failed(folders[i]));
  const size_t good = 4 * entries.size();
  const int expected[] = {EISDIR, ELOOP, ENOENT, EINVAL, ENOTDIR, ENOENT};
  for (size_t i = 0; i < 6; i++) CHECK(got[good + i].Failed(expected[i]));
  CHECK(got[good + 6] == "self" && got[good + 7] == "good");
  for (const Got& one : Read(root / "plain", {"a", "b"}, entries)) CHECK(one.Failed(ENOTDIR));
  for (const Got& one : Read(root / "none", {"a"}, entries)) CHECK(one.Failed(ENOENT));
}

TEST(folders_text_is_bytes_and_bounded) {
  const check::Folder root;
  const std::string all("\0\xff\n\x1b end", 8);
  for (const auto& [name, content] :
       std::vector<std::pair<std::string, std::string>>{{"binary", all},
                                                        {"empty", ""},
                                                        {"longest", std::string(kLongestText, 'x')},
                                                        {"longer", std::string(kLongestText + 1, 'x')},
                                                        {"long", std::string(1024 * 1024, 'x')}}) {
    CHECK(mkdir((root / name).c_str(), 0755) == 0);
    Write(root / name + "/file", content);
  }
  const std::vector<Got> got = Read(root.path(), {"binary", "empty", "longest", "longer", "long"}, {kText});
  CHECK(got[0] == all && got[1] == "");
  CHECK(got[2] == std::string(kLongestText, 'x'));
  CHECK(got[3].Failed(EFBIG) && got[4].Failed(EFBIG));
}

TEST(folders_a_fifo_does_not_keep_anybody_waiting) {
  const check::Folder root;
  CHECK(mkdir((root / "a").c_str(), 0755) == 0 && mkfifo((root / "a/file").c_str(), 0644) == 0);
  CHECK(Read(root.path(), {"a"}, {kText})[0] == "");
  // With a writer that says nothing.
  const int reader = open((root / "a/file").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  const int writer = open((root / "a/file").c_str(), O_WRONLY | O_CLOEXEC);
  CHECK(Read(root.path(), {"a"}, {kText})[0].Failed(EAGAIN));
  close(reader);
  close(writer);
}

TEST(folders_names_of_a_full_folder) {
  const check::Folder root;
  CHECK(mkdir((root / "many").c_str(), 0755) == 0);
  std::vector<std::string> expected;
  for (int i = 0; i < 3000; i++) {
    char name[32];
    snprintf(name, sizeof(name), "0000:%04x", i);
    expected.push_back(name);
    Write(root / "many/" + name, "");
  }
  CHECK(Sorted(Read(root.path(), {"many"}, {{EntryKind::kNames, ""}})[0].bytes) == expected);
}

TEST(folders_names_and_answers_are_bounded) {
  const check::Folder root;
  CHECK(mkdir((root / "many").c_str(), 0755) == 0);
  const std::string pad(240, 'n');
  for (int i = 0; i < 5000; i++) CHECK(symlink("x", (root / "many/" + std::to_string(i) + pad).c_str()) == 0);
  CHECK(Read(root.path(), {"many"}, {{EntryKind::kNames, ""}})[0].Failed(EFBIG));

  Write(root / "file", std::string(kLongestText, 'x'));
  const std::vector<std::string> folders(2500, ".");
  const std::vector<Got> got = Read(root.path(), folders, {kText, kText});
  size_t full = 0;
  for (const Got& one : got) full += one.Failed(EMSGSIZE) ? 1 : 0;
  CHECK(got.front().bytes.size() == kLongestText && got.back().Failed(EMSGSIZE));
  CHECK(full == got.size() - (kLongestAnswer + kLongestText + 3) / (kLongestText + 4));
}

TEST(folders_of_sysfs) {
  // An attribute comes whole in one read, and cannot be read by who has no right to it.
  std::ifstream file("/sys/class/net/lo/mtu");
  const std::string mtu((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::vector<Got> got = Read("/sys/class/net", {"lo"},
                                    {{EntryKind::kText, "mtu"},
                                     {EntryKind::kLink, ""},
                                     {EntryKind::kText, "duplex"},
                                     {EntryKind::kNames, "queues"}});
  CHECK(got[0] == mtu && !mtu.empty());
  CHECK(got[1].bytes.find("devices/virtual/net/lo") != std::string::npos);
  // The loopback device answers EINVAL: an error of the driver's, as it is.
  CHECK(got[2].error != 0);
  CHECK(Sorted(got[3].bytes) == (std::vector<std::string>{"rx-0", "tx-0"}));
}

TEST(folders_vanish_between_two_entries) {
  // A process that ends is a device that leaves: its folder is open, and its files are gone.
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  const std::string pid = std::to_string(child);
  CHECK(Read("/proc", {pid}, {{EntryKind::kText, "comm"}})[0].error == 0);
  kill(child, SIGKILL);
  CHECK(waitpid(child, nullptr, 0) == child);
  for (const Got& one : Read("/proc", {pid}, {{EntryKind::kText, "comm"}, {EntryKind::kInode, ""}}))
    CHECK(one.Failed(ENOENT));
}

TEST(folders_leave_no_descriptor_and_need_three_at_most) {
  const check::Folder root;
  CHECK(mkdir((root / "a").c_str(), 0755) == 0);
  Write(root / "a/file", "x");
  const int before = check::CountDescriptors();
  // Three more numbers are all that it may have.
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const int next = dup(0);
  close(next);
  const struct rlimit narrow = {static_cast<rlim_t>(next) + 3, limit.rlim_max};
  CHECK(setrlimit(RLIMIT_NOFILE, &narrow) == 0);
  const std::vector<Got> got = Read(root.path(), std::vector<std::string>(100, "a"),
                                    {kText, {EntryKind::kNames, ""}, {EntryKind::kText, "none"}});
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  for (size_t i = 0; i < got.size(); i += 3)
    CHECK(got[i] == "x" && got[i + 1].error == 0 && got[i + 2].Failed(ENOENT));
  CHECK(check::CountDescriptors() == before);
}

}  // namespace
}  // namespace aperture
