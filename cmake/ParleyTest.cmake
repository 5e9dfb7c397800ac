# parley_test(NAME core SOURCES a.cpp b.cpp [LIBS lib...] [TIMEOUT seconds] [SERIAL] [QUICK] [DEFINITIONS d...]
#             [DEPENDS target...] [SEEDED] [PLAIN_STACK])
#
# One doctest executable per room, test_<NAME>, with each of its TEST_CASEs registered in CTest under
# "<NAME>: <the test's sentence>", in a process and with a time limit of its own. SERIAL: they measure time or use the
# whole machine, and run while no other test does. QUICK: the room's own code is compiled with -O1 also where the rest is
# with -O2, for the sake of CI's time; not for rooms whose templates are what is tested. DEPENDS: programs that the tests
# start. SEEDED: the tests search seeds in simulated worlds; the program is called seeded_<NAME>, and
# `./parley test --seeds` builds and runs all of them (target `seeded`). PLAIN_STACK: without AddressSanitizer's fake
# stack, for tests that throw some hundred thousand times: after each throw it walks all of its frames.
set(PARLEY_SKIP_ROOMS "" CACHE STRING "Rooms of tests that are not built, as a list")

function(parley_test)
    cmake_parse_arguments(PARSE_ARGV 0 arg "SERIAL;QUICK;SEEDED;PLAIN_STACK" "NAME;TIMEOUT" "SOURCES;LIBS;DEFINITIONS;DEPENDS")
    if(NOT arg_SOURCES)
        message(STATUS "tests/${arg_NAME}: no sources yet")
        return()
    endif()
    if(arg_NAME IN_LIST PARLEY_SKIP_ROOMS)
        return()
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 60)
    endif()

    set(target test_${arg_NAME})
    if(arg_SEEDED)
        set(target seeded_${arg_NAME})
    endif()
    add_executable(${target} ${arg_SOURCES})
    parley_target(${target})
    target_link_libraries(${target} PRIVATE parley_doctest_main ${arg_LIBS})
    target_include_directories(${target} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/tests")
    target_compile_definitions(${target} PRIVATE ${arg_DEFINITIONS})
    if(arg_QUICK)
        target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
    endif()
    if(arg_SEEDED)
        if(NOT TARGET seeded)
            add_custom_target(seeded)
        endif()
        add_dependencies(seeded ${target})
    endif()
    if(arg_DEPENDS)
        add_dependencies(${target} ${arg_DEPENDS})
    endif()

    # Sanitizers slow everything down; their limits only have to catch what hangs.
    set(environment "")
    if(PARLEY_SANITIZE STREQUAL "address")
        math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 3")
        set(environment "ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1")
        if(arg_PLAIN_STACK)
            string(REPLACE "after_return=1" "after_return=0" environment "${environment}")
        endif()
    elseif(PARLEY_SANITIZE STREQUAL "thread")
        math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 4")
        set(environment "TSAN_OPTIONS=halt_on_error=0:second_deadlock_stack=1")
    endif()

    # The names are asked of the program itself once it is built, so that no list is kept by hand.
    set(listing "${CMAKE_CURRENT_BINARY_DIR}/${target}.cmake")
    add_custom_command(TARGET ${target} POST_BUILD VERBATIM
        BYPRODUCTS "${listing}"
        COMMAND "${CMAKE_COMMAND}"
            "-DPROGRAM=$<TARGET_FILE:${target}>" "-DROOM=${arg_NAME}" "-DTIMEOUT=${arg_TIMEOUT}"
            "-DSERIAL=${arg_SERIAL}" "-DENVIRONMENT=${environment}" "-DLISTING=${listing}"
            -P "${PROJECT_SOURCE_DIR}/cmake/ListTestCases.cmake")
    # An executable that was never built is one failing test, not silence.
    file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake"
        "if(EXISTS \"${listing}\")\n    include(\"${listing}\")\n"
        "else()\n    add_test(\"${arg_NAME}: not built\" \"${target}_is_not_built\")\nendif()\n")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake")
endfunction()
