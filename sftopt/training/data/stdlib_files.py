"""The frozen list of standard library files that ``stdlib-bytes`` is made of.

One line each: the first 16 hex digits of the file's sha256 in CPython 3.11.7, and its path. Files
of other releases differ here and there or are gone: they are used as they are, and the task's notes
say so.
All are part of a minimal installation (Debian's lacks idlelib, test, tkinter, distutils).
"""

PRETRAINING_TRAIN = """\
ec646ef7e27aae26 _collections_abc.py
12c8356a3d40bd0a _compat_pickle.py
cb14dd6f2e2439eb _markupbase.py
6a99e8c9ff67c891 _osx_support.py
f9c6fe3dd9b51bd7 _py_abc.py
f22f010af7d96fa7 _pyio.py
065e6597af214f79 _strptime.py
e1bf3dae66d0bfa6 _threading_local.py
e558702a95cdce3f abc.py
dc1eba8adfdf6159 argparse.py
c513073798bdbf3c ast.py
7de2ffc30db7b791 base64.py
314d8bf11b4824d4 bdb.py
76ab3252924e71e8 bz2.py
0a97cf92d0e3efd2 cProfile.py
b3b140864fd122a5 calendar.py
fb82a8c4e44e5b55 cmd.py
266841655656d5b2 code.py
f16a81d14e7f7393 codecs.py
859a2743805b0570 compileall.py
4a70cecccb55031a configparser.py
d732c045bc745099 contextlib.py
27dcfc53a4b9d4fb copy.py
5499e1be7ba52d47 copyreg.py
4b7e1c99ebea53b5 dataclasses.py
cc9bcb0f1c2f44e1 datetime.py
0c6afc23568d55b3 difflib.py
2e8d70c8cd2f4ce1 dis.py
5a51c6698376a872 doctest.py
84fc683aa71da233 enum.py
178f19895fdd43d5 filecmp.py
b0cd2a3f01c96f59 fileinput.py
b11e850e354808b8 fractions.py
672300f448249dfd ftplib.py
6d80018a3fa9fed4 functools.py
efafb88c7c978e96 getopt.py
a5c249a522b6b8e3 gettext.py
fa579f8a50a66313 glob.py
7bd338c5a475d110 graphlib.py
8e0a7f850ef481fe gzip.py
e2bffb462e4d43e6 hashlib.py
a4790b3cfd1b5887 hmac.py
dc3be105fb6b3e28 imaplib.py
d55ac82f84e5c939 inspect.py
b157f2f318650698 ipaddress.py
ac828df41b2fac93 locale.py
58fb9d2fdc8a8af7 lzma.py
e695a76d936f009d mailbox.py
240e2278866203e6 mimetypes.py
e07ab000c3698a75 modulefinder.py
6394e8e650d04c26 netrc.py
030fdd768135c4de ntpath.py
6d70991643a109e9 numbers.py
e6fc6dc49ced415d opcode.py
b2af20f67667203c operator.py
07d224301cba312f optparse.py
021bfb21a96fdaac os.py
3b21ac188fd9ac20 pathlib.py
2edee4e67353513f pdb.py
f29792b7bad19b9b pickle.py
bcc8d00ebadd684a pickletools.py
54e8463bc398757a pkgutil.py
4a3cc68ba7354f8d platform.py
2988417c6982a0ce plistlib.py
7b341e6adb4e4341 poplib.py
115bb3d2051318ee posixpath.py
0b67dbc8af449d8c pprint.py
4d87bdc8b85bf0a9 profile.py
d62d1e6a626ebd92 pstats.py
0b153a3908429ae9 pty.py
3464f04938b57a7a py_compile.py
e8ca09333701ba41 pyclbr.py
3c49fe7c6361c6c2 pydoc.py
f6c37fc37cd74409 queue.py
7070b61e5a582423 quopri.py
b931a2d452db89ab random.py
fee9ad9c55529be4 rlcompleter.py
f7af4206d8cbb27f runpy.py
edfb309483d7cb05 sched.py
1eeb102373e18c96 selectors.py
42ab6060f316e121 shlex.py
d0dbfcd96ba06684 shutil.py
6803396ba0719e4d site.py
b154e27998d0ef0b smtplib.py
07f2010f98b7b90c socket.py
a1402df8627949d0 socketserver.py
e532bbe0ff12313b ssl.py
889a066f1b8063e7 statistics.py
24aeae1f0526250f string.py
60b6c83581093029 stringprep.py
2ff641d58f869649 subprocess.py
ce90d8e945776674 symtable.py
c16887bf792dc21f sysconfig.py
73bc1829f1063472 tabnanny.py
d6957647c11b6592 tarfile.py
c9169b0ef905999b tempfile.py
62867e40cdea6669 textwrap.py
2c4c1db159e11788 threading.py
e6414bbc158ad200 timeit.py
79aa94ebe1761811 tokenize.py
e18581573c2b0e98 trace.py
22c8a9a4b34668ac traceback.py
c2cc84a05b824df7 tracemalloc.py
0c08fbb650c37535 types.py
115d96e966bf35cf typing.py
e936b632e7b14cbd uuid.py
3c36ff80a66718e3 warnings.py
95ba2de5e7be0420 wave.py
56f8d313fb74019e weakref.py
97ce2327720d3e55 webbrowser.py
776078e89fd7dadb zipapp.py
2de79ca464499be9 zipfile.py
e84b98dd13d3a8ae zipimport.py
d5d41e2c29049515 json/__init__.py
9f02654649816145 json/decoder.py
7c358788fbb2a6a0 json/encoder.py
fec3d2f335260c6d http/__init__.py
5ebb56a7864c690d http/client.py
9587a95edc194a19 http/cookiejar.py
d471860df3a8e126 http/server.py
0e67e2f5a301d0b5 urllib/parse.py
d8781dda3bec20d5 urllib/request.py
389b811835f9a3ba urllib/robotparser.py
40ebc018d1f1d7f1 xml/dom/expatbuilder.py
af4ee09b06efc54e xml/dom/minidom.py
614b88673d496a36 xml/dom/pulldom.py
d4f33a8f01875562 xml/dom/xmlbuilder.py
97b513db52e9d838 xml/etree/ElementInclude.py
ae8a80a8b51567b4 xml/etree/ElementPath.py
ff904b02de3a8688 xml/etree/ElementTree.py
c4e4a910430b7f44 xml/sax/expatreader.py
64c7aae49f1dd382 xml/sax/handler.py
3fe2cdb6386e0c4d xml/sax/saxutils.py
922a6e2995952366 xml/sax/xmlreader.py
bcd33f1595a7fe38 logging/__init__.py
be46fd2e31d5beda logging/handlers.py
49ad4fdc8139026f importlib/__init__.py
2aa31b7369a9725c importlib/_bootstrap.py
5b7f704fd3198cb4 importlib/_bootstrap_external.py
10c316fd409976a2 importlib/abc.py
eb3b92dd8302f491 importlib/metadata/__init__.py
de645b9f6d595f5e importlib/util.py
8c6d5f09f7c535d4 concurrent/futures/_base.py
2869b759c29c3192 concurrent/futures/process.py
b06f8899881193ef concurrent/futures/thread.py
38b8afb30ee4cc89 multiprocessing/connection.py
bd8628d1e140d933 multiprocessing/context.py
e99f0aa2e4dc41af multiprocessing/forkserver.py
f6bb79bb99b9ae48 multiprocessing/heap.py
314c299639bf01f9 multiprocessing/managers.py
1539ad7e8aa4b8df multiprocessing/pool.py
67f0c2a7a3a83c92 multiprocessing/process.py
c6a5e3d6918de807 multiprocessing/queues.py
4999f8b9ae7b3e8a multiprocessing/reduction.py
b0099f5e2285fe24 multiprocessing/resource_tracker.py
51301e70710220e1 multiprocessing/shared_memory.py
77ef522912474652 multiprocessing/sharedctypes.py
ebf9fa40eb622384 multiprocessing/spawn.py
9afc08f6d99deb0c multiprocessing/synchronize.py
8780ce280f54d59c multiprocessing/util.py
f062e82d6bcdc231 unittest/case.py
44b8d2c7eea54b02 unittest/loader.py
a05b67e605dfd82e unittest/main.py
fa902fb34f845839 unittest/mock.py
eb3f6ed6a6d339b8 unittest/result.py
bc559dd2b01b3739 unittest/runner.py
ed2da92bc9f97c53 unittest/suite.py
303701de55e434c0 collections/__init__.py
bbc4634b3396bb6a curses/textpad.py
c99202d9eb4e25a0 dbm/dumb.py
282b7cdd567bbbf3 html/entities.py
2fc512ae95bed274 html/parser.py
e3712e8b8c6069d9 wsgiref/handlers.py
0fbf95a47d8e4c0d wsgiref/headers.py
622c6a2c69db3b10 wsgiref/validate.py
2e6d11a76a1d1f36 xmlrpc/client.py
607bd06518658f7b xmlrpc/server.py
"""
"""Files the default model is pre-trained on."""

PRETRAINING_HELD_OUT = """\
6c68a5186e3b85e6 csv.py
6d43277e5c76fc0f heapq.py
b978c6f0ffa901b0 shelve.py
a4712e985f8d892e http/cookies.py
b83aead25609a9d1 logging/config.py
ebb9b679519a2325 zoneinfo/_zoneinfo.py
"""
"""Files the pre-trained model is evaluated on."""

TUNING_TRAIN = """\
d70b5f90b186ae41 asyncio/__init__.py
eb22d0fa0c480025 asyncio/__main__.py
f2acc35cc35011f8 asyncio/base_events.py
385a1fd5e8688f1f asyncio/base_futures.py
d69ba8f97bf8c895 asyncio/base_subprocess.py
70f6b21a2371eaa8 asyncio/base_tasks.py
e1f33a8145945247 asyncio/constants.py
8b60928d13116c28 asyncio/coroutines.py
c0cec01aeee27010 asyncio/events.py
a5971f88be14cd14 asyncio/exceptions.py
6377b672b3f4ba8b asyncio/format_helpers.py
ba8ef5e12f850cfd asyncio/proactor_events.py
1d1b49988c338b4e asyncio/protocols.py
0f11dcd59cd7f9e2 asyncio/runners.py
9d4a92f5ca741722 asyncio/selector_events.py
3728924fd68354c7 asyncio/sslproto.py
ff289bdc20a50ad9 asyncio/staggered.py
027198037c8735a7 asyncio/subprocess.py
553c0ce39014fff4 asyncio/taskgroups.py
e88c1a5e5ddd4fff asyncio/tasks.py
3e40ca0dca3e5477 asyncio/timeouts.py
940108bc133de399 asyncio/transports.py
c0eac37debcc51b7 asyncio/trsock.py
a68a39b8ac56468a asyncio/unix_events.py
c271d5c050e6d388 asyncio/windows_events.py
e6fcffefa2521666 asyncio/windows_utils.py
e4f46e3414c4602c email/__init__.py
4178321600c0a19c email/_encoded_words.py
f4fe84dcd279f58e email/_header_value_parser.py
4308932872acbf4a email/_parseaddr.py
967a41672b54f344 email/_policybase.py
e2b4b87a5f42a8c5 email/base64mime.py
3ccb2e8603906566 email/charset.py
2d81026aef17e478 email/contentmanager.py
690b275529788cc4 email/encoders.py
33fc889cbff57bb7 email/errors.py
fada56c25b6a457c email/headerregistry.py
1080a2d03779176d email/iterators.py
58d34f90058df562 email/message.py
b82a944ccba03e7e email/mime/application.py
856263b25a3384a7 email/mime/audio.py
460be5b50cfcaab8 email/mime/image.py
30fccea73b874b5d email/mime/message.py
8bf2beca6de95d66 email/mime/multipart.py
dbf4775f89ab4335 email/mime/text.py
7a665bc106e9d4f6 email/parser.py
ca1b94f27db71109 email/policy.py
77b454bd3ba3b5e3 email/quoprimime.py
151a5736d6be70f9 email/utils.py
"""
"""Files of fine-tuning."""

TUNING_VALIDATION = """\
a1b23b2d0a1333a2 asyncio/futures.py
8f020744ebd1f557 asyncio/queues.py
4d9baa908ad5288d email/header.py
"""
"""Files of fine-tuning's validation."""

TUNING_TEST = """\
3c8d4862ec147ca5 asyncio/locks.py
7638c2de92941d9c asyncio/streams.py
ca333e0462c96505 email/feedparser.py
afb50c2d30793fec email/generator.py
"""
"""Files of fine-tuning's test."""
