"""Labels and pixels in, named feature columns out: CellProfiler's measurements.

A measurement is a function ``f(objects)``, ``f(objects, image, channel)``,
``f(objects, image1, image2, channel1, channel2)`` or ``f(objects, others)`` that returns
``{CellProfiler's name without the compartment: (n,) float64}`` in ascending order of label, nan where undefined.
"""
