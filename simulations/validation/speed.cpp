// The same bag of tasks as speed.sh gives to mesh sim, with SimGrid 3.32: speed HOSTS TASKS BYTES
//
// Whichever host is free takes the next task: an input of so many bytes comes from a server over one link that all share, then
// some work, drawn from a log-normal distribution of mean 1 s and coefficient of variation 1. Prints the makespan, and
// the CPU time of the program, in seconds.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <simgrid/s4u.hpp>
#include <string>
#include <vector>

namespace sg = simgrid::s4u;

int main(int count, char** words) {
  sg::Engine engine(&count, words);
  // A plain max-min model: see simgrid_golden.py.
  for (const char* setting : {"network/model:CM02", "network/TCP-gamma:0", "network/crosstraffic:0"})
    sg::Engine::set_config(setting);
  const int hosts = std::atoi(words[1]), tasks = std::atoi(words[2]);
  const double bytes = std::atof(words[3]);
  auto* zone = sg::create_full_zone("zone");
  auto* server = zone->create_host("server", 1e9);
  auto* link = zone->create_link("link", 125e6)->set_latency(1e-3)->seal();
  std::vector<sg::Host*> workers;
  for (int n = 0; n < hosts; n++) {
    workers.push_back(zone->create_host("w" + std::to_string(n), 1e9));
    zone->add_route(server->get_netpoint(), workers.back()->get_netpoint(), nullptr, nullptr, {sg::LinkInRoute(link)}, true);
  }
  zone->seal();
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> work(-std::log(2.0) / 2, std::sqrt(std::log(2.0)));
  int left = tasks;
  for (auto* host : workers) {
    sg::Actor::create("worker", host, [&, host] {
      while (left-- > 0) {
        if (bytes > 0) sg::Comm::sendto(server, host, static_cast<uint64_t>(bytes));
        sg::this_actor::execute(1e9 * work(random));
      }
    });
  }
  engine.run();
  std::printf("%.6f %.2f\n", sg::Engine::get_clock(), static_cast<double>(std::clock()) / CLOCKS_PER_SEC);
}
