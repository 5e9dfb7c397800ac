#include <parley/sim/world.hpp>

#include "access.h"
#include "kernel.h"

namespace parley::sim {

using detail::kernel;

// --- hosts ---

const std::string &host::name() const noexcept {
    return state_.name;
}

const std::string &host::address() const noexcept {
    return state_.text;
}

void host::run(const std::function<void()> &f) {
    detail::thread &self = kernel::running()->threads().self();
    struct back {
        detail::thread &self;
        detail::host_state *home;
        ~back() { self.home = home; }
    } afterwards{self, self.home};
    self.home = &state_;
    f();
}

sync::thread host::start(std::function<void()> f) {
    sync::thread made;
    run([&] { made = sync::thread(std::move(f)); });
    return made;
}

std::string host::read_file(const std::string &path) const {
    auto place = state_.files.files.find(path);
    if (place == state_.files.files.end())
        throw std::out_of_range("sim::host::read_file: no file " + path + " on " + state_.name);
    return place->second->bytes;
}

void host::write_file(const std::string &path, std::string content) {
    auto &place = state_.files.files[path];
    if (place == nullptr)
        place = std::make_shared<detail::content>();
    place->bytes = std::move(content);
}

void host::limit_disk(std::size_t bytes) {
    state_.files.limit = bytes;
}

void host::limit_descriptors(std::size_t count) {
    state_.most_descriptors = count;
}

std::size_t host::descriptors() const noexcept {
    return state_.open_descriptors;
}

void host::limit_ports(std::uint16_t first, std::uint16_t last) {
    state_.first_port = first;
    state_.last_port = last;
}

// --- the world ---

kernel &world_access::kernel_of(world &it) {
    return *it.kernel_;
}

world::world(std::uint64_t seed) : kernel_(std::make_unique<kernel>(seed)) {
    kernel_->face = this;
    kernel_->hosts.emplace_back(new host(*kernel_->net().hosts[0]));
}

world::~world() = default;

std::uint64_t world::seed() const noexcept {
    return kernel_->seed;
}

host &world::local() noexcept {
    return *kernel_->hosts[0];
}

host &world::add_host(std::string name) {
    if (kernel_->net().by_name(name) != nullptr)
        throw std::invalid_argument("sim::world::add_host: there is a host " + name + " already");
    kernel_->hosts.emplace_back(new host(kernel_->net().add(name)));
    return *kernel_->hosts.back();
}

void world::link(host &a, host &b, const struct link &how) {
    kernel_->net().set_link(a.state_, b.state_, how);
}

void world::partition(host &a, host &b) {
    kernel_->trace_note("partition between " + a.name() + " and " + b.name());
    kernel_->net().set_up(a.state_, b.state_, false);
}

void world::heal(host &a, host &b) {
    kernel_->trace_note("the link between " + a.name() + " and " + b.name() + " is whole");
    kernel_->net().set_up(a.state_, b.state_, true);
}

void world::set_faults(const faults &chances) {
    kernel_->set_faults(chances);
}

void world::fail_calls(call which, int error, const plan &when, const host *where) {
    kernel_->plan_failure(which,
                          {error, when.after, when.times, 0, where != nullptr ? &where->state_ : nullptr});
}

void world::fail_calls_by_chance(call which, int error, double chance, const host *where) {
    kernel_->plan_failure(which, {error, 0, 0, chance, where != nullptr ? &where->state_ : nullptr});
}

void world::cut_connection(std::uint16_t port, bool connecting_side, std::uint64_t bytes, bool reset) {
    kernel_->plan_cut({port, connecting_side, bytes, reset});
}

void world::jump(nanoseconds time) {
    kernel_->trace_note("the clocks move on by " + std::to_string(time.count() / 1000000) + " ms");
    kernel_->jump(time.count());
}

void world::set_wall_clock(nanoseconds since_1970) {
    kernel_->set_wall_clock(since_1970.count());
}

void world::raise(int signal) {
    kernel_->raise(signal);
}

void world::run(const std::function<void()> &f) {
    kernel_->run(f);
}

world *world::current() noexcept {
    kernel *it = kernel::running();
    return it != nullptr ? it->face : nullptr;
}

nanoseconds world::now() const noexcept {
    return nanoseconds(kernel_->since_start());
}

void world::sleep(nanoseconds time) {
    kernel_->threads().block("sleeps", nullptr, kernel_->threads().now() + time.count());
}

void world::point() {
    kernel_->threads().point("is at a point of the program's", nullptr);
}

std::uint32_t world::draw(std::uint32_t n) {
    return kernel_->chosen().draw(detail::stream::program, n);
}

bool world::chance(double p) {
    return kernel_->chosen().seldom(detail::stream::program, p) != 0;
}

void world::fail(const std::string &what) {
    kernel_->fail(what);
}

void world::expect(bool true_, std::string_view what) {
    if (!true_)
        kernel_->fail(std::string(what));
}

void world::note(std::string_view text) {
    kernel_->trace_note(std::string(text));
}

void world::keep_trace() {
    kernel_->keep_trace();
}

const std::vector<std::string> &world::trace() const noexcept {
    return kernel_->trace_lines();
}

std::uint64_t world::fingerprint() const noexcept {
    return kernel_->fingerprint();
}

std::uint64_t world::steps() const noexcept {
    return kernel_->threads().steps();
}

} // namespace parley::sim
