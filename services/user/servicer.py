"""UserService, one method per RPC: rules are in `domain`, accounts in `accounts` and `sessions`."""

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import final

from google.api import httpbody_pb2
from google.protobuf import empty_pb2

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import audit, call_context, conversion, idempotency, ids, paging, rules
from chassis.codec import Context
from chassis.database import Database
from services.user import domain, messages, repository
from services.user.accounts import Accounts
from services.user.domain import Profile, User
from services.user.first_admin import FirstAdmin
from services.user.id_tokens import IdTokens
from services.user.revocation_log import RevocationLog
from services.user.sessions import Sessions
from services.user.signing_keys import SigningKeys

MAX_PAGE_SIZE = 1_000


@final
class UserServicer(user_pb2_grpc.UserServiceServicer):
    """Serves users from one database."""

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        sessions: Sessions,
        keys: SigningKeys,
        revocations: RevocationLog,
        first_admin: FirstAdmin,
        id_tokens: IdTokens,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._sessions = sessions
        self.keys = keys
        self.revocations = revocations
        self._first_admin = first_admin
        self._id_tokens = id_tokens

    async def Register(
        self, request: user_pb2.RegisterRequest, context: Context
    ) -> empty_pb2.Empty:
        profile = domain.check_profile(
            domain.Profile(request.email, request.display_name, addresses=())
        )
        await self._accounts.register(profile, request.password)
        return empty_pb2.Empty()

    async def VerifyEmail(
        self, request: user_pb2.VerifyEmailRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._accounts.verify_email(request.token)
        return empty_pb2.Empty()

    async def RequestPasswordReset(
        self, request: user_pb2.RequestPasswordResetRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._accounts.request_password_reset(domain.check_email(request.email))
        return empty_pb2.Empty()

    async def ResetPassword(
        self, request: user_pb2.ResetPasswordRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._accounts.reset_password(request.token, request.new_password)
        return empty_pb2.Empty()

    async def CreateUser(
        self, request: user_pb2.CreateUserRequest, context: Context
    ) -> user_pb2.User:
        profile = domain.check_profile(messages.parse_profile(request))
        without_password = user_pb2.CreateUserRequest()
        without_password.CopyFrom(request)
        without_password.ClearField("password")
        repeatable = idempotency.identify(context, without_password)
        user = await self._accounts.create(profile, request.password, repeatable)
        return messages.to_message(user)

    async def GetUser(self, request: user_pb2.GetUserRequest, context: Context) -> user_pb2.User:
        user_id = uuid.UUID(request.user_id)
        domain.check_exists_for(call_context.get_caller(), user_id)
        return messages.to_message(await self._database.read(repository.get_user, user_id))

    async def UpdateUser(
        self, request: user_pb2.UpdateUserRequest, context: Context
    ) -> user_pb2.User:
        user_id = uuid.UUID(request.user_id)
        fields = conversion.parse_update_mask(request.update_mask, request.user, domain.UPDATABLE)

        def change(user: User) -> Profile:
            updated = conversion.update(messages.to_message(user), request.user, fields)
            rules.check(updated)
            return domain.check_profile(messages.parse_profile(updated))

        caller = call_context.get_caller()
        user = await self._accounts.update(caller, user_id, request.user.etag, change)
        return messages.to_message(user)

    async def DeleteUser(
        self, request: user_pb2.DeleteUserRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._accounts.delete(call_context.get_caller(), uuid.UUID(request.user_id))
        return empty_pb2.Empty()

    async def ListUsers(
        self, request: user_pb2.ListUsersRequest, context: Context
    ) -> user_pb2.ListUsersResponse:
        size = min(request.page_size, MAX_PAGE_SIZE)
        progress = paging.Progress("users", request.page_token, size, MAX_PAGE_SIZE)
        after = progress.last_id
        limit = progress.limit
        found = await self._database.read(repository.list_users, after, limit + 1)
        response = user_pb2.ListUsersResponse()
        count = paging.fill(response.users.add, found[:limit], messages.fill_message)
        progress.advance(found, count, lambda user: [str(user.user_id)])
        response.next_page_token = progress.next_page_token
        return response

    async def SetRole(self, request: user_pb2.SetRoleRequest, context: Context) -> user_pb2.User:
        role = messages.parse_role(request.role)
        return messages.to_message(await self._accounts.set_role(uuid.UUID(request.user_id), role))

    async def ChangePassword(
        self, request: user_pb2.ChangePasswordRequest, context: Context
    ) -> empty_pb2.Empty:
        caller = call_context.get_caller()
        domain.check_self(caller, uuid.UUID(request.user_id))
        await self._accounts.change_password(
            caller.user_id, request.current_password, request.new_password, kept=caller.session_id
        )
        return empty_pb2.Empty()

    async def ChangeEmail(
        self, request: user_pb2.ChangeEmailRequest, context: Context
    ) -> empty_pb2.Empty:
        caller = call_context.get_caller()
        domain.check_self(caller, uuid.UUID(request.user_id))
        email = domain.check_email(request.email)
        await self._accounts.change_email(caller.user_id, email, request.password)
        return empty_pb2.Empty()

    async def Login(
        self, request: user_pb2.LoginRequest, context: Context
    ) -> user_pb2.SessionTokens:
        # The admin of the settings can log in as soon as the service is up.
        await self._first_admin.ensure()
        email = domain.normalize_email(request.email)
        return messages.to_tokens(await self._sessions.log_in(email, request.password))

    async def LoginWithIdToken(
        self, request: user_pb2.LoginWithIdTokenRequest, context: Context
    ) -> user_pb2.SessionTokens:
        identity = await self._id_tokens.verify(request.id_token)
        return messages.to_tokens(await self._sessions.log_in_from_outside(identity))

    async def RefreshToken(
        self, request: user_pb2.RefreshTokenRequest, context: Context
    ) -> user_pb2.SessionTokens:
        return messages.to_tokens(await self._sessions.refresh(request.refresh_token))

    async def Logout(self, request: user_pb2.LogoutRequest, context: Context) -> empty_pb2.Empty:
        await self._sessions.log_out(request.refresh_token, all_sessions=request.all_sessions)
        return empty_pb2.Empty()

    async def GetJwks(
        self, request: user_pb2.GetJwksRequest, context: Context
    ) -> httpbody_pb2.HttpBody:
        document = await self.keys.publish()
        return httpbody_pb2.HttpBody(content_type="application/jwk-set+json", data=document)

    async def WatchRevocations(
        self, request: user_pb2.WatchRevocationsRequest, context: Context
    ) -> AsyncIterator[user_pb2.WatchRevocationsResponse]:
        async with aclosing(self.revocations.watch()) as watched:
            async for revocations in watched:
                yield messages.to_revocations(revocations)

    async def ListAuditEvents(
        self, request: user_pb2.ListAuditEventsRequest, context: Context
    ) -> AsyncIterator[user_pb2.ListAuditEventsResponse]:
        """Read message after message: no connection is held while the client reads."""
        query = audit.Query(request.user_id, request.resource)
        progress = paging.Progress(query, request.page_token, request.page_size)
        while not progress.is_done:
            # Not kept in a variable: the client may take long to read the response.
            yield await audit.read_page(
                self._database, query, progress, user_pb2.ListAuditEventsResponse()
            )

    async def BatchGetUsers(
        self, request: user_pb2.BatchGetUsersRequest, context: Context
    ) -> user_pb2.BatchGetUsersResponse:
        user_ids = ids.parse_ids(request.user_ids, "user_ids")
        mask = conversion.parse_read_mask(request.read_mask, user_pb2.User.DESCRIPTOR)
        async with self._database.connection() as connection:
            found = await repository.get_users(connection, user_ids)
        response = user_pb2.BatchGetUsersResponse()
        paging.fill_batch(
            response,
            response.users.add,
            found,
            lambda message, user: mask.MergeMessage(messages.to_message(user), message),
        )
        return response
