"""All that knows NNI's insides: repairs, its experiments, its dispatcher, its portal.

Its modules are its faces: importing one does not import the others, since a tuner has ten seconds to come up.
"""
