"""What ``lapse doctor`` looks at: each check is a finding with a level, in words, and with a fix where one is needed.

Nothing is changed, and a provider is sent one harmless request each.
"""
