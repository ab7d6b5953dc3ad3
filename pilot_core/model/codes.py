"""Error codes of the PanDA pilot: numbers that the server, the monitor and
users' retry rules know.

Source: pilot3 3.11.5.1, `common/errorcodes.py` (numbers, names, messages) and
`util/auxiliary.py` (process exit codes). Never renumber: JEDI's retry rules
and the monitor's statistics are written against these numbers.
"""

from enum import IntEnum

__all__ = ["EXIT_CODES", "ErrorCode", "exit_code", "message"]


class ErrorCode(IntEnum):
    """pilotErrorCode of a job report; 0 is no error."""

    NONE = 0
    GENERALERROR = 1008
    NOLOCALSPACE = 1098
    STAGEINFAILED = 1099
    REPLICANOTFOUND = 1100
    NOSUCHFILE = 1103
    USERDIRTOOLARGE = 1104
    STDOUTTOOBIG = 1106
    SETUPFAILURE = 1110
    NFSSQLITE = 1115
    QUEUEDATA = 1116
    QUEUEDATANOTOK = 1117
    OUTPUTFILETOOLARGE = 1124
    NOSTORAGE = 1133
    STAGEOUTFAILED = 1137
    PUTMD5MISMATCH = 1141
    CHMODTRF = 1143
    PANDAKILL = 1144
    GETMD5MISMATCH = 1145
    TRFDOWNLOADFAILURE = 1149
    LOOPINGJOB = 1150
    STAGEINTIMEOUT = 1151
    STAGEOUTTIMEOUT = 1152
    NOPROXY = 1163
    MISSINGOUTPUTFILE = 1165
    SIZETOOLARGE = 1168
    GETADMISMATCH = 1171
    PUTADMISMATCH = 1172
    NOVOMSPROXY = 1177
    GETGLOBUSSYSERR = 1180
    PUTGLOBUSSYSERR = 1181
    NOSOFTWAREDIR = 1186
    NOPAYLOADMETADATA = 1187
    LFNTOOLONG = 1190
    ZEROFILESIZE = 1191
    MKDIR = 1199
    KILLSIGNAL = 1200
    SIGTERM = 1201
    SIGQUIT = 1202
    SIGSEGV = 1203
    SIGXCPU = 1204
    USERKILL = 1205
    SIGBUS = 1206
    SIGUSR1 = 1207
    SIGINT = 1208
    MISSINGINSTALLATION = 1211
    PAYLOADOUTOFMEMORY = 1212
    REACHEDMAXTIME = 1213
    UNKNOWNPAYLOADFAILURE = 1220
    FILEEXISTS = 1221
    BADALLOC = 1223
    ESRECOVERABLE = 1224
    ESFATAL = 1228
    EXECUTEDCLONEJOB = 1234
    PAYLOADEXCEEDMAXMEM = 1235
    FAILEDBYSERVER = 1236
    ESNOEVENTS = 1238
    MESSAGEHANDLINGFAILURE = 1240
    CHKSUMNOTSUP = 1242
    NORELEASEFOUND = 1244
    NOUSERTARBALL = 1246
    BADXML = 1247
    NOTIMPLEMENTED = 1300
    UNKNOWNEXCEPTION = 1301
    CONVERSIONFAILURE = 1302
    FILEHANDLINGFAILURE = 1303
    PAYLOADEXECUTIONFAILURE = 1305
    SINGULARITYGENERALFAILURE = 1306
    SINGULARITYNOLOOPDEVICES = 1307
    SINGULARITYBINDPOINTFAILURE = 1308
    SINGULARITYIMAGEMOUNTFAILURE = 1309
    PAYLOADEXECUTIONEXCEPTION = 1310
    NOTDEFINED = 1311
    NOTSAMELENGTH = 1312
    NOSTORAGEPROTOCOL = 1313
    UNKNOWNCHECKSUMTYPE = 1314
    UNKNOWNTRFFAILURE = 1315
    RUCIOSERVICEUNAVAILABLE = 1316
    EXCEEDEDMAXWAITTIME = 1317
    COMMUNICATIONFAILURE = 1318
    INTERNALPILOTPROBLEM = 1319
    LOGFILECREATIONFAILURE = 1320
    RUCIOLOCATIONFAILED = 1321
    RUCIOLISTREPLICASFAILED = 1322
    UNKNOWNCOPYTOOL = 1323
    SERVICENOTAVAILABLE = 1324
    SINGULARITYNOTINSTALLED = 1325
    NOREPLICAS = 1326
    UNREACHABLENETWORK = 1327
    PAYLOADSIGSEGV = 1328
    NONDETERMINISTICDDM = 1329
    JSONRETRIEVALTIMEOUT = 1330
    MISSINGINPUTFILE = 1331
    BLACKHOLE = 1332
    NOREMOTESPACE = 1333
    SETUPFATAL = 1334
    MISSINGUSERCODE = 1335
    JOBALREADYRUNNING = 1336
    BADMEMORYMONITORJSON = 1337
    STAGEINAUTHENTICATIONFAILURE = 1338
    DBRELEASEFAILURE = 1339
    SINGULARITYNEWUSERNAMESPACE = 1340
    BADQUEUECONFIGURATION = 1341
    MIDDLEWAREIMPORTFAILURE = 1342
    NOOUTPUTINJOBREPORT = 1343
    RESOURCEUNAVAILABLE = 1344
    SINGULARITYFAILEDUSERNAMESPACE = 1345
    TRANSFORMNOTFOUND = 1346
    UNSUPPORTEDSL5OS = 1347
    SINGULARITYRESOURCEUNAVAILABLE = 1348
    UNRECOGNIZEDTRFARGUMENTS = 1349
    EMPTYOUTPUTFILE = 1350
    UNRECOGNIZEDTRFSTDERR = 1351
    STATFILEPROBLEM = 1352
    NOSUCHPROCESS = 1353
    GENERALCPUCALCPROBLEM = 1354
    COREDUMP = 1355
    PREPROCESSFAILURE = 1356
    POSTPROCESSFAILURE = 1357
    MISSINGRELEASEUNPACKED = 1358
    PANDAQUEUENOTACTIVE = 1359
    IMAGENOTFOUND = 1360
    REMOTEFILECOULDNOTBEOPENED = 1361
    XRDCPERROR = 1362
    KILLPAYLOAD = 1363
    MISSINGCREDENTIALS = 1364
    NOCTYPES = 1365
    CHECKSUMCALCFAILURE = 1366
    COMMANDTIMEDOUT = 1367
    REMOTEFILEOPENTIMEDOUT = 1368
    FRONTIER = 1369
    VOMSPROXYABOUTTOEXPIRE = 1370
    BADOUTPUTFILENAME = 1371
    APPTAINERNOTINSTALLED = 1372
    CERTIFICATEHASEXPIRED = 1373
    REMOTEFILEDICTDOESNOTEXIST = 1374
    LEASETIME = 1375
    LOGCREATIONTIMEOUT = 1376
    CVMFSISNOTALIVE = 1377
    LSETUPTIMEDOUT = 1378
    PREEMPTION = 1379
    ARCPROXYFAILURE = 1380
    ARCPROXYLIBFAILURE = 1381
    PROXYTOOSHORT = 1382
    STAGEOUTAUTHENTICATIONFAILURE = 1383
    QUEUENOTSETUPFORCONTAINERS = 1384
    NOJOBSINPANDA = 1385
    PANDAQUEUENOTONLINE = 1386


_MESSAGES: dict[ErrorCode, str] = {
    ErrorCode.NONE: "",
    ErrorCode.GENERALERROR: "General pilot error, consult batch log",
    ErrorCode.NOLOCALSPACE: "Not enough local space",
    ErrorCode.STAGEINFAILED: "Failed to stage-in file",
    ErrorCode.REPLICANOTFOUND: "Replica not found",
    ErrorCode.NOSUCHFILE: "No such file or directory",
    ErrorCode.USERDIRTOOLARGE: "User work directory too large",
    ErrorCode.STDOUTTOOBIG: "Payload log or stdout file too big",
    ErrorCode.SETUPFAILURE: "Failed during payload setup",
    ErrorCode.NFSSQLITE: "NFS SQLite locking problems",
    ErrorCode.QUEUEDATA: "Pilot could not download queuedata",
    ErrorCode.QUEUEDATANOTOK: "Pilot found non-valid queuedata",
    ErrorCode.OUTPUTFILETOOLARGE: "Output file too large",
    ErrorCode.NOSTORAGE: "Fetching default storage failed: no activity related storage defined",
    ErrorCode.STAGEOUTFAILED: "Failed to stage-out file",
    ErrorCode.PUTMD5MISMATCH: "md5sum mismatch on output file",
    ErrorCode.CHMODTRF: "Failed to chmod transform",
    ErrorCode.PANDAKILL: "This job was killed by panda server",
    ErrorCode.GETMD5MISMATCH: "md5sum mismatch on input file",
    ErrorCode.TRFDOWNLOADFAILURE: "Transform could not be downloaded",
    ErrorCode.LOOPINGJOB: "Looping job killed by pilot",
    ErrorCode.STAGEINTIMEOUT: "File transfer timed out during stage-in",
    ErrorCode.STAGEOUTTIMEOUT: "File transfer timed out during stage-out",
    ErrorCode.NOPROXY: "Grid proxy not valid",
    ErrorCode.MISSINGOUTPUTFILE: "Local output file is missing",
    ErrorCode.SIZETOOLARGE: "Total file size too large",
    ErrorCode.GETADMISMATCH: "adler32 mismatch on input file",
    ErrorCode.PUTADMISMATCH: "adler32 mismatch on output file",
    ErrorCode.NOVOMSPROXY: "Voms proxy not valid",
    ErrorCode.GETGLOBUSSYSERR: "Globus system error during stage-in",
    ErrorCode.PUTGLOBUSSYSERR: "Globus system error during stage-out",
    ErrorCode.NOSOFTWAREDIR: "Software directory does not exist",
    ErrorCode.NOPAYLOADMETADATA: "Payload metadata does not exist",
    ErrorCode.LFNTOOLONG: "LFN too long (exceeding limit of 255 characters)",
    ErrorCode.ZEROFILESIZE: "File size cannot be zero",
    ErrorCode.MKDIR: "Failed to create directory",
    ErrorCode.KILLSIGNAL: "Job terminated by unknown kill signal",
    ErrorCode.SIGTERM: "Job killed by signal: SIGTERM",
    ErrorCode.SIGQUIT: "Job killed by signal: SIGQUIT",
    ErrorCode.SIGSEGV: "Job killed by signal: SIGSEGV",
    ErrorCode.SIGXCPU: "Job killed by signal: SIGXCPU",
    ErrorCode.USERKILL: "Job killed by user",
    ErrorCode.SIGBUS: "Job killed by signal: SIGBUS",
    ErrorCode.SIGUSR1: "Job killed by signal: SIGUSR1",
    ErrorCode.SIGINT: "Job killed by signal: SIGINT",
    ErrorCode.MISSINGINSTALLATION: "Missing installation",
    ErrorCode.PAYLOADOUTOFMEMORY: "Payload ran out of memory",
    ErrorCode.REACHEDMAXTIME: "Reached batch system time limit",
    ErrorCode.UNKNOWNPAYLOADFAILURE: "Job failed due to unknown reason (consult log file)",
    ErrorCode.FILEEXISTS: "File already exists",
    ErrorCode.BADALLOC: "Transform failed due to bad_alloc",
    ErrorCode.ESRECOVERABLE: "Event service: recoverable error",
    ErrorCode.ESFATAL: "Event service: fatal error",
    ErrorCode.EXECUTEDCLONEJOB: "Clone job is already executed",
    ErrorCode.PAYLOADEXCEEDMAXMEM: "Payload exceeded maximum allowed memory",
    ErrorCode.FAILEDBYSERVER: "Failed by server",
    ErrorCode.ESNOEVENTS: "Event service: no events",
    ErrorCode.MESSAGEHANDLINGFAILURE: "Failed to handle message from payload",
    ErrorCode.CHKSUMNOTSUP: "Query checksum is not supported",
    ErrorCode.NORELEASEFOUND: "No release candidates found",
    ErrorCode.NOUSERTARBALL: "User tarball could not be downloaded from PanDA server",
    ErrorCode.BADXML: "Badly formed XML",
    ErrorCode.NOTIMPLEMENTED: "The class or function is not implemented",
    ErrorCode.UNKNOWNEXCEPTION: "An unknown pilot exception has occurred",
    ErrorCode.CONVERSIONFAILURE: "Failed to convert object data",
    ErrorCode.FILEHANDLINGFAILURE: "Failed during file handling",
    ErrorCode.PAYLOADEXECUTIONFAILURE: "Failed to execute payload",
    ErrorCode.SINGULARITYGENERALFAILURE: "Singularity/Apptainer: general failure",
    ErrorCode.SINGULARITYNOLOOPDEVICES: "Singularity/Apptainer: No more available loop devices",
    ErrorCode.SINGULARITYBINDPOINTFAILURE: "Singularity/Apptainer: Not mounting requested bind point",
    ErrorCode.SINGULARITYIMAGEMOUNTFAILURE: "Singularity/Apptainer: Failed to mount image",
    ErrorCode.PAYLOADEXECUTIONEXCEPTION: "Exception caught during payload execution",
    ErrorCode.NOTDEFINED: "Not defined",
    ErrorCode.NOTSAMELENGTH: "Not same length",
    ErrorCode.NOSTORAGEPROTOCOL: "No protocol defined for storage endpoint",
    ErrorCode.UNKNOWNCHECKSUMTYPE: "Unknown checksum type",
    ErrorCode.UNKNOWNTRFFAILURE: "Unknown transform failure",
    ErrorCode.RUCIOSERVICEUNAVAILABLE: "Rucio: Service unavailable",
    ErrorCode.EXCEEDEDMAXWAITTIME: "Exceeded maximum waiting time",
    ErrorCode.COMMUNICATIONFAILURE: "Failed to communicate with server",
    ErrorCode.INTERNALPILOTPROBLEM: "An internal Pilot problem has occurred (consult Pilot log)",
    ErrorCode.LOGFILECREATIONFAILURE: "Failed during creation of log file",
    ErrorCode.RUCIOLOCATIONFAILED: "Failed to get client location for Rucio",
    ErrorCode.RUCIOLISTREPLICASFAILED: "Failed to get replicas from Rucio",
    ErrorCode.UNKNOWNCOPYTOOL: "Unknown copy tool",
    ErrorCode.SERVICENOTAVAILABLE: "Service not available at the moment",
    ErrorCode.SINGULARITYNOTINSTALLED: "Singularity: not installed",
    ErrorCode.NOREPLICAS: "No matching replicas were found in list_replicas() output",
    ErrorCode.UNREACHABLENETWORK: "Unable to stage-in file since network is unreachable",
    ErrorCode.PAYLOADSIGSEGV: "SIGSEGV: Invalid memory reference or a segmentation fault",
    ErrorCode.NONDETERMINISTICDDM: "Failed to construct SURL for non-deterministic ddm (update CRIC)",
    ErrorCode.JSONRETRIEVALTIMEOUT: "JSON retrieval timed out",
    ErrorCode.MISSINGINPUTFILE: "Input file is missing in storage element",
    ErrorCode.BLACKHOLE: "Black hole detected in file system (consult Pilot log)",
    ErrorCode.NOREMOTESPACE: "No space left on device",
    ErrorCode.SETUPFATAL: "Setup failed with a fatal exception (consult Payload log)",
    ErrorCode.MISSINGUSERCODE: "User code not available on PanDA server (resubmit task with --useNewCode)",
    ErrorCode.JOBALREADYRUNNING: "Job is already running elsewhere",
    ErrorCode.BADMEMORYMONITORJSON: "Memory monitor produced bad output",
    ErrorCode.STAGEINAUTHENTICATIONFAILURE: "Authentication failure during stage-in",
    ErrorCode.DBRELEASEFAILURE: "Local DBRelease handling failed (consult Pilot log)",
    ErrorCode.SINGULARITYNEWUSERNAMESPACE: (
        "Singularity/Apptainer: Failed invoking the NEWUSER namespace runtime"
    ),
    ErrorCode.BADQUEUECONFIGURATION: "Bad queue configuration detected",
    ErrorCode.MIDDLEWAREIMPORTFAILURE: "Failed to import middleware (consult Pilot log)",
    ErrorCode.NOOUTPUTINJOBREPORT: "Found no output in job report",
    ErrorCode.RESOURCEUNAVAILABLE: "Resource temporarily unavailable",
    ErrorCode.SINGULARITYFAILEDUSERNAMESPACE: "Singularity/Apptainer: Failed to create user namespace",
    ErrorCode.TRANSFORMNOTFOUND: "Transform not found",
    ErrorCode.UNSUPPORTEDSL5OS: "Unsupported SL5 OS",
    ErrorCode.SINGULARITYRESOURCEUNAVAILABLE: "Singularity/Apptainer: Resource temporarily unavailable",
    ErrorCode.UNRECOGNIZEDTRFARGUMENTS: "Unrecognized transform arguments",
    ErrorCode.EMPTYOUTPUTFILE: "Empty output file detected",
    ErrorCode.UNRECOGNIZEDTRFSTDERR: "Unrecognized fatal error in transform stderr",
    ErrorCode.STATFILEPROBLEM: "Failed to stat proc file for CPU consumption calculation",
    ErrorCode.NOSUCHPROCESS: "CPU consumption calculation failed: No such process",
    ErrorCode.GENERALCPUCALCPROBLEM: "General CPU consumption calculation problem (consult Pilot log)",
    ErrorCode.COREDUMP: "Core dump detected",
    ErrorCode.PREPROCESSFAILURE: "Pre-process command failed",
    ErrorCode.POSTPROCESSFAILURE: "Post-process command failed",
    ErrorCode.MISSINGRELEASEUNPACKED: "Missing release setup in unpacked container",
    ErrorCode.PANDAQUEUENOTACTIVE: "PanDA queue is not active",
    ErrorCode.IMAGENOTFOUND: "Image not found",
    ErrorCode.REMOTEFILECOULDNOTBEOPENED: "Remote file could not be opened",
    ErrorCode.XRDCPERROR: "Xrdcp was unable to open file",
    ErrorCode.KILLPAYLOAD: "Raythena has decided to kill payload",
    ErrorCode.MISSINGCREDENTIALS: "Unable to locate credentials for S3 transfer",
    ErrorCode.NOCTYPES: "Python module ctypes not available on worker node",
    ErrorCode.CHECKSUMCALCFAILURE: "Failure during checksum calculation",
    ErrorCode.COMMANDTIMEDOUT: "Command timed out",
    ErrorCode.REMOTEFILEOPENTIMEDOUT: "Remote file open timed out",
    ErrorCode.FRONTIER: "Frontier error",
    ErrorCode.VOMSPROXYABOUTTOEXPIRE: "VOMS proxy is about to expire",
    ErrorCode.BADOUTPUTFILENAME: "Output file name contains illegal characters",
    ErrorCode.APPTAINERNOTINSTALLED: "Apptainer: not installed",
    ErrorCode.CERTIFICATEHASEXPIRED: "Certificate has expired",
    ErrorCode.REMOTEFILEDICTDOESNOTEXIST: "Remote file open dictionary does not exist",
    ErrorCode.LEASETIME: "Lease time is up",
    ErrorCode.LOGCREATIONTIMEOUT: "Log file creation timed out",
    ErrorCode.CVMFSISNOTALIVE: "CVMFS is not responding",
    ErrorCode.LSETUPTIMEDOUT: "Lsetup command timed out during remote file open",
    ErrorCode.PREEMPTION: "Job was preempted",
    ErrorCode.ARCPROXYFAILURE: "General arcproxy failure",
    ErrorCode.ARCPROXYLIBFAILURE: "Arcproxy failure while loading shared libraries",
    ErrorCode.PROXYTOOSHORT: "Proxy is too short",
    ErrorCode.STAGEOUTAUTHENTICATIONFAILURE: "Authentication failure during stage-out",
    ErrorCode.QUEUENOTSETUPFORCONTAINERS: "Queue is not set up for containers",
    ErrorCode.NOJOBSINPANDA: "No jobs in PanDA",
    ErrorCode.PANDAQUEUENOTONLINE: "PanDA queue is not online",
}


def message(code: ErrorCode) -> str:
    """The standard sentence of a code, without a full stop."""
    return _MESSAGES[code]


# Exit code of the pilot process by pilot error code; batch systems and
# Harvester read these. Signals follow the shell: 128 + number.
EXIT_CODES: dict[ErrorCode, int] = {
    ErrorCode.NONE: 0,
    ErrorCode.CVMFSISNOTALIVE: 64,
    ErrorCode.GENERALERROR: 65,
    ErrorCode.MKDIR: 66,
    ErrorCode.NOSUCHFILE: 67,
    ErrorCode.NOVOMSPROXY: 68,
    ErrorCode.NOPROXY: 68,
    ErrorCode.CERTIFICATEHASEXPIRED: 68,
    ErrorCode.NOLOCALSPACE: 69,
    ErrorCode.UNKNOWNEXCEPTION: 70,
    ErrorCode.QUEUEDATA: 71,
    ErrorCode.QUEUEDATANOTOK: 72,
    ErrorCode.NOSOFTWAREDIR: 73,
    ErrorCode.JSONRETRIEVALTIMEOUT: 74,
    ErrorCode.BLACKHOLE: 75,
    ErrorCode.MIDDLEWAREIMPORTFAILURE: 76,
    ErrorCode.MISSINGINPUTFILE: 77,
    ErrorCode.PANDAQUEUENOTACTIVE: 78,
    ErrorCode.COMMUNICATIONFAILURE: 79,
    ErrorCode.PROXYTOOSHORT: 80,
    ErrorCode.REACHEDMAXTIME: 81,
    ErrorCode.NOJOBSINPANDA: 82,
    ErrorCode.PANDAQUEUENOTONLINE: 83,
    ErrorCode.SIGINT: 130,
    ErrorCode.SIGQUIT: 131,
    ErrorCode.SIGBUS: 135,
    ErrorCode.KILLSIGNAL: 137,
    ErrorCode.SIGUSR1: 138,
    ErrorCode.SIGSEGV: 139,
    ErrorCode.SIGTERM: 143,
    ErrorCode.PREEMPTION: 143,
    ErrorCode.SIGXCPU: 152,
}


def exit_code(code: ErrorCode) -> int:
    """Exit code of the process for a pilot error; 1 for every code without one
    of its own.
    """
    return EXIT_CODES.get(code, 1)
