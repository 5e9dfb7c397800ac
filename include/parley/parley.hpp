// All of parley but HTTP.

#pragma once

#include <parley/acceptor.hpp>
#include <parley/cancelled.hpp>
#include <parley/channel.hpp>
#include <parley/client.hpp>
#include <parley/compute.hpp>
#include <parley/connection.hpp>
#include <parley/detach.hpp>
#include <parley/endpoint.hpp>
#include <parley/error.hpp>
#include <parley/file.hpp>
#include <parley/from_callback.hpp>
#include <parley/loop.hpp>
#include <parley/outcome.hpp>
#include <parley/protocol.hpp>
#include <parley/readiness.hpp>
#include <parley/resolve.hpp>
#include <parley/result.hpp>
#include <parley/resume_on.hpp>
#include <parley/run.hpp>
#include <parley/runtime.hpp>
#include <parley/scope.hpp>
#include <parley/select.hpp>
#include <parley/serve.hpp>
#include <parley/service_options.hpp>
#include <parley/sleep.hpp>
#include <parley/task.hpp>
#include <parley/task_local.hpp>
#include <parley/tls.hpp>
#include <parley/wait_signal.hpp>
