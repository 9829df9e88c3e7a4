"""Kills workers at named points, again and again, and looks whether anything was released that must not be.

::

    points.py     the points, and how a process comes to die at one
    nursery.py    a process that has everything loaded and forks one worker after the other
    harness.py    gives work, has workers killed, looks after each kill and at the end (kill_workers)
    stalls.py     what everybody waits for, when something does not go on
"""
