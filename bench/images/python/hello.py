import platform

import numpy

square = numpy.arange(9.0).reshape(3, 3)
print("hello from python", platform.python_version(), "numpy", numpy.__version__, int((square @ square).trace()), flush=True)
