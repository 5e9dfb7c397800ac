# Run after a test program is linked: writes the CTest script that registers its test cases one by one.
cmake_minimum_required(VERSION 3.25)

execute_process(
    COMMAND "${PROGRAM}" --list-test-cases --no-colors=true --no-version=true
    OUTPUT_VARIABLE output ERROR_VARIABLE error RESULT_VARIABLE result TIMEOUT 60)
if(NOT result EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} --list-test-cases: ${result}\n${output}${error}")
endif()

# A sentence may hold what CMake lists and doctest filters give a meaning to. [ ] ; are hidden while lists are split;
# doctest wants its commas and backslashes escaped.
string(REPLACE "[" "<parley-open>" output "${output}")
string(REPLACE "]" "<parley-close>" output "${output}")
string(REPLACE ";" "<parley-semicolon>" output "${output}")
string(REPLACE "\n" ";" lines "${output}")

separate_arguments(ENVIRONMENT)
set(script "")
set(seen "")
foreach(name IN LISTS lines)
    if(name MATCHES "^(===+|<parley-open>doctest<parley-close>.*|)$" OR name IN_LIST seen)
        continue()
    endif()
    list(APPEND seen "${name}")
    string(REPLACE "<parley-open>" "[" name "${name}")
    string(REPLACE "<parley-close>" "]" name "${name}")
    string(REPLACE "<parley-semicolon>" ";" name "${name}")
    string(REPLACE "\\" "\\\\" filter "${name}")
    string(REPLACE "," "\\," filter "${filter}")
    set(title "[==[${ROOM}: ${name}]==]")
    string(APPEND script
        "add_test(${title} [==[${PROGRAM}]==] [==[--test-case=${filter}]==])\n"
        "set_tests_properties(${title} PROPERTIES TIMEOUT ${TIMEOUT} LABELS ${ROOM}"
        # A filter that finds nothing would count as passed.
        " FAIL_REGULAR_EXPRESSION [==[test cases: +0 ]==]")
    if(SERIAL)
        string(APPEND script " RUN_SERIAL TRUE")
    endif()
    if(ENVIRONMENT)
        string(APPEND script " ENVIRONMENT [==[${ENVIRONMENT}]==]")
    endif()
    string(APPEND script ")\n")
endforeach()
if(script STREQUAL "")
    message(FATAL_ERROR "${PROGRAM} holds no test case")
endif()
file(WRITE "${LISTING}" "${script}")
