// [real kernel] Open files counted by inotify: one event for each, whatever becomes of its descriptors.
#include "sys/inotify.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "check.h"

namespace aperture {
namespace {

class Counted {
 public:
  Counted() : path_(folder_ / "node"), inotify_(std::move(CreateInotify().value())) {
    UniqueFd made(open(path_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    CHECK(ftruncate(made.get(), 4096) == 0);
    made.reset();
    watch_ = WatchFile(inotify_.get(), path_).value();
  }
  const char* path() const { return path_.c_str(); }
  int inotify() const { return inotify_.get(); }
  int watch() const { return watch_; }
  // Opens and closes since the last call.
  std::string Events() {
    std::string text;
    Result<std::vector<FileEvent>> events = ReadFileEvents(inotify_.get());
    if (!CHECK(events.ok())) return text;
    for (const FileEvent& event : events.value()) {
      CHECK(event.watch == watch_);
      text += (event.mask & IN_OPEN) != 0 ? 'o' : (event.mask & IN_CLOSE_WRITE) != 0 ? 'w' : 'r';
    }
    return text;
  }

 private:
  check::Folder folder_;
  std::string path_;
  UniqueFd inotify_;
  int watch_ = -1;
};

TEST(inotify_counts_open_files_and_not_descriptors) {
  Counted node;
  CHECK(node.Events().empty());
  UniqueFd file(open(node.path(), O_RDWR | O_CLOEXEC));
  UniqueFd copy(dup(file.get()));
  CHECK(node.Events() == "o");
  file.reset();
  CHECK(node.Events().empty());
  void* memory = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, copy.get(), 0);
  CHECK(memory != MAP_FAILED);
  copy.reset();
  CHECK(node.Events().empty());
  munmap(memory, 4096);
  CHECK(node.Events() == "w");
}

TEST(inotify_tells_the_close_of_a_reader_from_that_of_a_writer) {
  Counted node;
  UniqueFd writer(open(node.path(), O_RDWR | O_CLOEXEC));
  UniqueFd reader(open(node.path(), O_RDONLY | O_CLOEXEC));
  reader.reset();
  writer.reset();
  // Two equal events in a row that nobody read are one: the two opens. The two closes are not equal.
  CHECK(node.Events() == "orw");
}

TEST(inotify_watches_a_file_once_and_says_when_it_is_over) {
  Counted node;
  CHECK(WatchFile(node.inotify(), node.path()).value() == node.watch());
  CHECK(unlink(node.path()) == 0);
  Result<std::vector<FileEvent>> events = ReadFileEvents(node.inotify());
  if (!CHECK(events.ok())) return;
  CHECK(!events.value().empty() && (events.value().back().mask & IN_IGNORED) != 0);
  const Result<int> missing = WatchFile(node.inotify(), node.path());
  CHECK(!missing.ok() && missing.error().number == ENOENT);
}

TEST(inotify_does_not_follow_a_symlink) {
  Counted node;
  check::Folder folder;
  const std::string link = folder / "link";
  CHECK(symlink(node.path(), link.c_str()) == 0);
  CHECK(WatchFile(node.inotify(), link).value() != node.watch());
}

TEST(inotify_says_when_events_were_lost) {
  Counted node;
  const int before = check::CountDescriptors();
  // fs.inotify.max_queued_events is 16384 unless somebody has changed it; opens and closes alternate, so none
  // is merged.
  for (int i = 0; i < 20000; i++) UniqueFd(open(node.path(), O_RDONLY | O_CLOEXEC)).reset();
  bool lost = false;
  for (;;) {
    Result<std::vector<FileEvent>> events = ReadFileEvents(node.inotify());
    if (!CHECK(events.ok()) || events.value().empty()) break;
    for (const FileEvent& event : events.value()) {
      if ((event.mask & IN_Q_OVERFLOW) != 0) lost = event.watch == -1;
    }
  }
  CHECK(lost);
  CHECK(check::CountDescriptors() == before);
}

}  // namespace
}  // namespace aperture
