"""A service whose resources have versions, by AIP-154 and AIP-163.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from note.v1 import note_pb2, note_pb2_grpc

from gateway.testing.serving import listening

Context = grpc.aio.ServicerContext[Message, Message]


@dataclass
class NoteServicer(note_pb2_grpc.NoteServiceServicer):
    """Behaves as the comments in note.proto say."""

    notes: dict[str, note_pb2.Note] = field(default_factory=dict)
    calls: list[Message] = field(default_factory=list)
    """The requests of all calls."""

    async def CreateNote(
        self, request: note_pb2.CreateNoteRequest, context: Context
    ) -> note_pb2.Note:
        """Keep the note unless it is only validated."""
        self.calls.append(request)
        await _send_aside(request.aside, context)
        if not request.validate_only:
            self.notes[request.note.note_id] = request.note
        return request.note

    async def GetNote(self, request: note_pb2.GetNoteRequest, context: Context) -> note_pb2.Note:
        """Return the note."""
        self.calls.append(request)
        await _send_aside(request.aside, context)
        return await self._find(request.note_id, context)

    async def UpdateNote(
        self, request: note_pb2.UpdateNoteRequest, context: Context
    ) -> note_pb2.Note:
        """Change the text."""
        self.calls.append(request)
        note = await self._find_version(request.note_id, request.note.etag, context)
        return self._change(note, text=request.note.text, keep=not request.validate_only)

    async def DeleteNote(
        self, request: note_pb2.DeleteNoteRequest, context: Context
    ) -> empty_pb2.Empty:
        """Delete the note."""
        self.calls.append(request)
        await self._find_version(request.note_id, request.etag, context)
        del self.notes[request.note_id]
        return empty_pb2.Empty()

    async def ArchiveNote(
        self, request: note_pb2.ArchiveNoteRequest, context: Context
    ) -> note_pb2.Note:
        """Mark the note as archived."""
        self.calls.append(request)
        note = await self._find_version(request.note_id, request.etag, context)
        return self._change(note, text=note.text, archived=True)

    async def LockNote(self, request: note_pb2.LockNoteRequest, context: Context) -> note_pb2.Note:
        """Fail with ABORTED."""
        self.calls.append(request)
        await context.abort(grpc.StatusCode.ABORTED, "Somebody else was faster.")
        raise AssertionError("abort returned")

    async def _find(self, note_id: str, context: Context) -> note_pb2.Note:
        if note_id not in self.notes:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such note.")
        return self.notes[note_id]

    async def _find_version(self, note_id: str, etag: str, context: Context) -> note_pb2.Note:
        note = await self._find(note_id, context)
        if etag and etag != note.etag:
            await context.abort(grpc.StatusCode.ABORTED, "The note was changed meanwhile.")
        return note

    def _change(
        self, note: note_pb2.Note, *, text: str, archived: bool = False, keep: bool = True
    ) -> note_pb2.Note:
        changed = note_pb2.Note(
            note_id=note.note_id,
            text=text,
            etag=f"{note.etag}+",
            cover=note.cover,
            archived=archived,
        )
        if keep:
            self.notes[note.note_id] = changed
        return changed


@asynccontextmanager
async def serve_notes() -> AsyncIterator[tuple[NoteServicer, int]]:
    """Serve on a free port; yield the servicer and the port."""
    servicer = NoteServicer()
    server = grpc.aio.server()
    note_pb2_grpc.add_NoteServiceServicer_to_server(servicer, server)
    async with listening(server) as port:
        yield servicer, port


async def _send_aside(aside: note_pb2.Aside, context: Context) -> None:
    """Send metadata, and fail if the request says so."""
    await context.send_initial_metadata(_pairs(aside.initial))
    trailing: list[tuple[str, str | bytes]] = [*_pairs(aside.trailing)]
    if aside.HasField("retry_delay"):
        status = status_pb2.Status(code=aside.code)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=aside.retry_delay))
        trailing.append(("grpc-status-details-bin", status.SerializeToString()))
    context.set_trailing_metadata(trailing)
    if aside.code:
        code = next(code for code in grpc.StatusCode if code.value[0] == aside.code)
        await context.abort(code, "asked to fail")


def _pairs(lines: Iterable[str]) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (line.partition(": ") for line in lines)]
