"""Syncs thousands of feeds a minute, as a feed reader does: ``python -m examples.feed_reader --feeds 2000``.

An asyncio pool fetches, a threaded pool parses and writes, a schedule starts a sync every two seconds::

    SyncFeeds (cron) --one FetchFeed for each feed, in bulk--> FetchFeed (unique) --the body--> ParseFeed (threads)
"""
