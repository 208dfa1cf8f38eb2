"""From a log to a verdict: may a learned policy take the place of practice?"""
