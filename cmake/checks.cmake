# Tests of the sources themselves: the sanitizers would say the same of them. Included after all folders.

add_test(NAME layering COMMAND ${CMAKE_COMMAND} -DROOT=${CMAKE_SOURCE_DIR} -P ${CMAKE_SOURCE_DIR}/cmake/check_layering.cmake)

# The check sees what it is there to see.
set(wrong ${CMAKE_BINARY_DIR}/wrong-layering)
file(WRITE ${wrong}/gc/up.c "#include \"base/buf.h\"\n#include \"contentd/server.h\"\n")
file(WRITE ${wrong}/contentd/skip.h "#include <stdio.h>\n # include \"runtime/shim.h\" // not its business\n")
file(WRITE ${wrong}/rpc/dots.c "#include \"../gc/mark.h\"\n")
add_test(NAME layering_sees_wrong_includes
  COMMAND ${CMAKE_COMMAND} -DROOT=${wrong} -P ${CMAKE_SOURCE_DIR}/cmake/check_layering.cmake)
set_tests_properties(layering_sees_wrong_includes PROPERTIES PASS_REGULAR_EXPRESSION
  "rpc/dots.c includes.*gc/up.c includes \"contentd/server.h\".*contentd/skip.h includes \"runtime/shim.h\".*3 includes")

# Every header compiles alone, and twice.
set(alone "")
foreach(folder ${CD_FOLDERS} bench tests)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/${folder}/*.h)
  foreach(h ${headers})
    set(c ${CMAKE_BINARY_DIR}/headers-alone/${h}.c)
    file(CONFIGURE OUTPUT ${c} CONTENT "#include \"${h}\"\n#include \"${h}\"\n")
    list(APPEND alone ${c})
  endforeach()
endforeach()
add_library(headers_alone OBJECT EXCLUDE_FROM_ALL ${alone})
foreach(folder ${CD_FOLDERS})
  if(TARGET ${folder})
    target_link_libraries(headers_alone PRIVATE ${folder}) # for the include paths, and generated headers made first
  endif()
endforeach()
add_test(NAME headers_alone COMMAND ${CMAKE_COMMAND} --build ${CMAKE_BINARY_DIR} --target headers_alone)

set_tests_properties(layering layering_sees_wrong_includes headers_alone PROPERTIES LABELS unit TIMEOUT 300)
