# The programs that every consumer builds and runs.
enable_testing()

function(consumer name)
    add_executable(${name} "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${name}.cpp")
    target_link_libraries(${name} PRIVATE ${ARGN})
    target_compile_options(${name} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT 30)
endfunction()

consumer(callback parley::core)
consumer(classic parley::core)
consumer(coroutine parley::parley)
consumer(http parley::parley)
consumer(simulated parley::parley parley::sim)
