"""A trial command of the user's own, which knows nothing of KNAS but its parameters."""

import os

import nni

parameters = nni.get_next_parameter()
with open(os.environ['KNAS_TEST_LOG'], 'a') as file:
    file.write(f'{sorted(parameters)!r}\n')
nni.report_final_result(float(parameters['width']))
