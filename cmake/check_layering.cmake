# cmake -DROOT=<source tree> -P check_layering.cmake
#
# Fails when a source includes a header of a folder that the table in layers.cmake does not allow it. Every include of
# ours names its folder ("base/buf.h"), so the text of the include tells; a path that leaves its folder by ".." is an
# error too.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/layers.cmake)

set(wrong 0)
set(seen 0)
foreach(folder ${CD_FOLDERS})
  file(GLOB_RECURSE sources RELATIVE ${ROOT} ${ROOT}/${folder}/*.c ${ROOT}/${folder}/*.h ${ROOT}/${folder}/*.cc)
  foreach(source ${sources})
    math(EXPR seen "${seen} + 1")
    file(STRINGS ${ROOT}/${source} includes REGEX "^[ \t]*#[ \t]*include[ \t]*[\"<][^\">]+/")
    foreach(line ${includes})
      string(REGEX REPLACE "^[ \t]*#[ \t]*include[ \t]*[\"<]([^\">]+)[\">].*" "\\1" path "${line}")
      string(REGEX REPLACE "/.*" "" used "${path}")
      if(path MATCHES "(^|/)\\.\\.(/|$)")
        message("${source} includes \"${path}\": name headers by their folder")
      elseif(used STREQUAL folder OR used IN_LIST CD_MAY_${folder})
        continue()
      elseif(used IN_LIST CD_FOLDERS OR used STREQUAL "tests" OR used STREQUAL "bench")
        list(JOIN CD_MAY_${folder} " " may)
        message("${source} includes \"${path}\", but ${folder}/ may use only: ${may}")
      else()
        continue() # a system header
      endif()
      math(EXPR wrong "${wrong} + 1")
    endforeach()
  endforeach()
endforeach()

if(wrong)
  message(FATAL_ERROR "${wrong} includes against the order of the folders (cmake/layers.cmake)")
elseif(NOT seen)
  message(FATAL_ERROR "no sources below \"${ROOT}\"")
endif()
message("${seen} sources respect the order of the folders")
