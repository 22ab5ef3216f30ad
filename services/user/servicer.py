"""UserService, one method per RPC: rules are in `domain`, SQL in `repository`."""

import uuid
from typing import final

from google.protobuf import empty_pb2

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis import conversion, errors, ids, paging, rules
from chassis.codec import Context
from chassis.database import Database
from services.user import domain, messages, repository
from services.user.passwords import Passwords

MAX_PAGE_SIZE = 1_000


@final
class UserServicer(user_pb2_grpc.UserServiceServicer):
    """Serves users from one database."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def CreateUser(
        self, request: user_pb2.CreateUserRequest, context: Context
    ) -> user_pb2.User:
        profile = domain.check_profile(messages.parse_profile(request))
        password_hash = await self._passwords.hash(request.password)
        async with self._database.connection() as connection:
            user = await repository.insert_user(connection, profile, password_hash)
        return messages.to_message(user)

    async def GetUser(self, request: user_pb2.GetUserRequest, context: Context) -> user_pb2.User:
        user_id = uuid.UUID(request.user_id)
        async with self._database.connection() as connection:
            user = await repository.get_user(connection, user_id)
        return messages.to_message(user)

    async def UpdateUser(
        self, request: user_pb2.UpdateUserRequest, context: Context
    ) -> user_pb2.User:
        """Lock the user, and write the new profile only if it differs."""
        user_id = uuid.UUID(request.user_id)
        fields = conversion.parse_update_mask(request.update_mask, request.user, domain.UPDATABLE)
        async with self._database.transaction() as connection:
            user = await repository.get_user(connection, user_id, lock=True)
            domain.check_etag(user, request.user.etag)
            updated = conversion.update(messages.to_message(user), request.user, fields)
            rules.check(updated)
            profile = domain.check_profile(messages.parse_profile(updated))
            if profile != user.profile:
                user = await repository.update_profile(connection, user_id, profile)
        return messages.to_message(user)

    async def DeleteUser(
        self, request: user_pb2.DeleteUserRequest, context: Context
    ) -> empty_pb2.Empty:
        user_id = uuid.UUID(request.user_id)
        async with self._database.connection() as connection:
            await repository.delete_user(connection, user_id)
        return empty_pb2.Empty()

    async def ListUsers(
        self, request: user_pb2.ListUsersRequest, context: Context
    ) -> user_pb2.ListUsersResponse:
        size = min(request.page_size, MAX_PAGE_SIZE)
        progress = paging.Progress("users", request.page_token, size, MAX_PAGE_SIZE)
        after = progress.last_id
        limit = progress.limit
        async with self._database.connection() as connection:
            found = await repository.list_users(connection, after, limit + 1)
        response = user_pb2.ListUsersResponse()
        count = paging.fill(response.users.add, found[:limit], messages.fill_message)
        progress.advance(found, count, lambda user: [str(user.user_id)])
        response.next_page_token = progress.next_page_token
        return response

    async def ChangePassword(
        self, request: user_pb2.ChangePasswordRequest, context: Context
    ) -> empty_pb2.Empty:
        """Verify and hash outside of a transaction, then compare and swap the hash."""
        user_id = uuid.UUID(request.user_id)
        async with self._database.connection() as connection:
            current = await repository.get_password_hash(connection, user_id)
        if not await self._passwords.verify(current, request.current_password):
            raise errors.PermissionDenied("WRONG_PASSWORD", "The current password is wrong.")
        new = await self._passwords.hash(request.new_password)
        async with self._database.connection() as connection:
            if not await repository.replace_password_hash(connection, user_id, current, new):
                message = "The password was changed meanwhile. Try again."
                raise errors.Aborted("PASSWORD_CHANGED", message)
        return empty_pb2.Empty()

    async def Login(
        self, request: user_pb2.LoginRequest, context: Context
    ) -> user_pb2.LoginResponse:
        raise _not_implemented("Login")

    async def RefreshToken(
        self, request: user_pb2.RefreshTokenRequest, context: Context
    ) -> user_pb2.RefreshTokenResponse:
        raise _not_implemented("RefreshToken")

    async def Logout(self, request: user_pb2.LogoutRequest, context: Context) -> empty_pb2.Empty:
        raise _not_implemented("Logout")

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


def _not_implemented(method: str) -> errors.Unimplemented:
    return errors.Unimplemented("NOT_IMPLEMENTED", f"{method} is not implemented yet.")
